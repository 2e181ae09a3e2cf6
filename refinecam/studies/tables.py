"""The rows of several evaluations as one table, and what studies make of it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from refinecam.attribution import parse_methods
from refinecam.data.funnybirds.summary import per_image_scores
from refinecam.evaluation.rows import key_of
from refinecam.evaluation.store import Results
from refinecam.evaluation.table import KEYS, title_of
from refinecam.metrics import SCORES
from refinecam.studies.plan import Evaluation
from refinecam.studies.statistics import mean_interval

FUNNYBIRDS = "funnybirds"
EMPTY = dict.fromkeys((*SCORES, FUNNYBIRDS), 0.0) | {"roc_auc": 0.5}
"""Score of a map that is the same everywhere, where maps are compared: leaving it out would reward empty maps."""
LABEL_FREE = tuple(name for name, score in SCORES.items() if not score.needs_masks and not score.on_request)


def stack(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """One row for each explained image and each method that was asked for.

    Args:
        evaluations: that are there.

    Returns:
        The rows of ``per_image.parquet`` of images that were explained, with ``data``, ``network``, ``variant``,
        ``title`` (of the method, with stage and aggregator) and, where the evaluation has it, the image's own
        FunnyBirds score.
    """
    frames = []
    for asked in evaluations:
        tables = Results(asked.folder).tables()
        rows = tables["per_image"]
        rows = rows[~rows["skipped"]].assign(
            data=asked.data.name, network=asked.network, variant=asked.variant, folder=str(asked.folder)
        )
        rows["title"] = [title_of(row) for row in rows[list(KEYS)].to_dict("records")]
        if FUNNYBIRDS in tables:
            own = per_image_scores(tables[FUNNYBIRDS])
            rows = rows.merge(own, on=["index", *KEYS], how="left")
            empty = rows[[score for score in LABEL_FREE if score in rows]].isna().all(axis=1)
            rows[FUNNYBIRDS] = rows[FUNNYBIRDS].mask(empty)
        titles = {title_of(dict(zip(KEYS, key_of(method), strict=True))) for method in parse_methods(asked.methods)}
        frames.append(rows[rows["title"].isin(titles)])
    return pd.concat(frames, ignore_index=True)


def scored(rows: pd.DataFrame, scores: Iterable[str]) -> list[str]:
    """Which of the scores the rows have."""
    return [score for score in scores if score in rows and rows[score].notna().any()]


def images_by_methods(rows: pd.DataFrame, score: str, titles: Sequence[str], empty: float = float("nan")) -> np.ndarray:
    """A score as an array (images, methods); NaN where a method has not been evaluated.

    Args:
        rows: of one network on one data set.
        score: its column.
        titles: of the methods.
        empty: score of a map that has none, because it is the same everywhere.
    """
    keys = ["data", "network", "index"]
    values = rows[score] if score in rows else pd.Series(np.nan, rows.index)
    known = values.notna().groupby([rows[key] for key in keys]).transform("any")  # else it is the image that has none
    whole = rows.assign(**{score: values.where(values.notna() | ~known, empty)})
    wide = whole.pivot_table(index=keys, columns="title", values=score, aggfunc="first", dropna=False, observed=True)
    images = rows.drop_duplicates(keys).set_index(keys).sort_index().index
    return wide.reindex(index=images, columns=list(titles)).to_numpy(dtype=np.float64)


def oriented(values: np.ndarray, score: str) -> np.ndarray:
    """With the better values higher."""
    return values if SCORES[score].higher_is_better else -values


def described(values: np.ndarray, **named: Any) -> dict[str, Any]:
    """A row of a study's table: its names, and the mean over images with its spread and interval."""
    mean = mean_interval(values)
    numbers = {"mean": mean.value, "std": np.nanstd(values) if mean.images else np.nan}
    return {**named, **numbers, "low": mean.low, "high": mean.high, "images": mean.images}


def parts(table: pd.DataFrame, *names: str) -> Iterable[tuple[Any, pd.DataFrame]]:
    """The table by the values of some columns, in order; nothing of an empty one, which has no columns."""
    return table.groupby(list(names), sort=False) if len(table) else ()
