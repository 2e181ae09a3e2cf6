"""The rows of several evaluations as one table, and what studies make of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refinecam.data.funnybirds.summary import per_image_scores
from refinecam.evaluation.store import Results
from refinecam.evaluation.table import title_of
from refinecam.metrics import SCORES
from refinecam.studies.statistics import mean_interval

FUNNYBIRDS = "funnybirds"
LABEL_FREE = tuple(name for name, score in SCORES.items() if not score.needs_masks and not score.on_request)


def stack(folders: Iterable[tuple[str, str, str, Path]]) -> pd.DataFrame:
    """One row for each explained image and method of all evaluations.

    Args:
        folders: name of the data, name of the network, variant, and the evaluation's output.

    Returns:
        The rows of ``per_image.parquet`` of images that were explained, with ``data``, ``network``, ``variant``,
        ``title`` (of the method, with stage and aggregator) and, where the evaluation has it, the image's own
        FunnyBirds score.
    """
    frames = []
    for data, network, variant, folder in folders:
        tables = Results(folder).tables()
        rows = tables["per_image"]
        rows = rows[~rows["skipped"]].assign(data=data, network=network, variant=variant, folder=str(folder))
        names = {key: title_of(dict(zip(("method", "stage", "aggregator"), key, strict=True))) for key in _keys(rows)}
        rows["title"] = [names[key] for key in _keys(rows)]
        if FUNNYBIRDS in tables:
            own = per_image_scores(tables[FUNNYBIRDS])
            rows = rows.merge(own, on=["index", "method", "stage", "aggregator"], how="left")
        frames.append(rows)
    return pd.concat(frames, ignore_index=True)


def _keys(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(zip(rows["method"], rows["stage"], rows["aggregator"], strict=True))


def images_by_methods(rows: pd.DataFrame, score: str, titles: Sequence[str]) -> np.ndarray:
    """A score as an array (images, methods); NaN where an image or a method has none."""
    keys = ["data", "network", "index"]
    wide = rows.pivot_table(index=keys, columns="title", values=score, aggfunc="first", dropna=False, observed=True)
    images = rows.drop_duplicates(keys).set_index(keys).sort_index().index
    return wide.reindex(index=images, columns=list(titles)).to_numpy(dtype=np.float64)


def oriented(values: np.ndarray, score: str) -> np.ndarray:
    """With the better values higher."""
    return values if SCORES[score].higher_is_better else -values


def groups(rows: pd.DataFrame) -> Iterable[tuple[str, str, pd.DataFrame]]:
    """Each network on each data set."""
    for (data, network), own in rows.groupby(["data", "network"], sort=False):
        yield str(data), str(network), own


def described(values: np.ndarray, **named: Any) -> dict[str, Any]:
    """A row of a study's table: its names, and the mean over images with its spread and interval."""
    mean = mean_interval(values)
    numbers = {"mean": mean.value, "std": np.nanstd(values) if mean.images else np.nan}
    return {**named, **numbers, "low": mean.low, "high": mean.high, "images": mean.images}


def parts(table: pd.DataFrame, *names: str) -> Iterable[tuple[Any, pd.DataFrame]]:
    """The table by the values of some columns, in order; nothing of an empty one, which has no columns."""
    return table.groupby(list(names), sort=False) if len(table) else ()


def round_table(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """As people read it."""
    return table.round(dict.fromkeys(table.select_dtypes("number"), digits))
