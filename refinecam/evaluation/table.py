"""The folder of an evaluation: tables, written batch by batch, from which everything else is made."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refinecam.core.errors import InputError

KEYS = ("method", "stage", "aggregator")
"""Columns that name a method."""


class Results:
    """Where an evaluation writes and where its report reads.

    While it runs, each process writes a small file for each batch into ``parts/TABLE/``, which
    :func:`pandas.read_parquet` reads as one table: what was computed survives whatever happens later. ``merge`` then
    puts everything into place: ``TABLE.parquet``, ``evaluation.json``, which says what was evaluated, and ``maps/``,
    the figure's images and maps. Until then an earlier evaluation's files stay.

    Args:
        folder: made by :meth:`start`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.parts = self.folder / "parts"

    def start(self, about: Mapping[str, Any]) -> None:
        """Begin an evaluation; rows of one that was interrupted move to ``parts-1`` and so on."""
        if any(self.parts.glob("*/*.parquet")):
            number = next(n for n in range(1, 10_000) if not Path(f"{self.parts}-{n}").exists())
            self.parts.rename(f"{self.parts}-{number}")
        shutil.rmtree(self.parts, ignore_errors=True)
        (self.parts / "maps").mkdir(parents=True)
        (self.parts / "evaluation.json").write_text(json.dumps(about, indent=1))

    @property
    def about(self) -> dict[str, Any]:
        """What was evaluated.

        Raises:
            InputError: if the folder has no evaluation.
        """
        path = self.folder / "evaluation.json"
        if not path.is_file():
            raise InputError(f"folder: {self.folder} has no evaluation.json; name the output of an evaluation")
        return json.loads(path.read_text())

    def add(self, table: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of one batch; ``name`` is the batch's own among all processes."""
        if rows:
            folder = self.parts / table
            folder.mkdir(exist_ok=True)
            pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet", index=False)

    def keep(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep one image with its maps for the figure."""
        np.savez_compressed(self.parts / "maps" / f"{index:09d}.npz", **arrays)  # type: ignore[arg-type]

    def kept(self) -> list[dict[str, np.ndarray]]:
        """The kept images, sorted by index."""
        return [dict(np.load(path)) for path in sorted((self.folder / "maps").glob("*.npz"))]

    def merge(self, kept: int) -> None:
        """Join each table's parts into one file, sorted by image, in the order of the methods.

        Args:
            kept: of all processes' images for the figure, how many stay.
        """
        names = sorted(path.name for path in self.parts.iterdir() if path.is_dir() and path.name != "maps")
        for name in names:
            result = [pd.read_parquet(path) for path in sorted((self.parts / name).glob("*.parquet"))]
            joined = pd.concat(result, ignore_index=True).sort_values("index", kind="stable", ignore_index=True)
            joined.to_parquet(self.folder / f"{name}.parquet", index=False)
        for path in self.folder.glob("*.parquet"):
            if path.stem not in names:
                path.unlink()
        for path in sorted((self.parts / "maps").iterdir())[kept:]:
            path.unlink()
        shutil.rmtree(self.folder / "maps", ignore_errors=True)
        for name in ("maps", "evaluation.json"):
            (self.parts / name).replace(self.folder / name)
        shutil.rmtree(self.parts)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by its name."""
        return {path.stem: pd.read_parquet(path) for path in sorted(self.folder.glob("*.parquet"))}


def summarize(table: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """Mean, standard deviation and counts of each score of each method, from the per-image table.

    Args:
        table: rows of images and methods.
        scores: columns to summarize.

    Returns:
        Columns method, stage, aggregator, score, mean, std (divided by the number of scores), scored, undefined (maps
        without a value) and skipped (images that were not explained).
    """
    rows = []
    for keys, of_method in table.groupby(list(KEYS), sort=False):
        explained = of_method[~of_method["skipped"]]
        for score in scores:
            values = explained[score].astype("float64")
            there = values[np.isfinite(values)]
            numbers = {"mean": there.mean(), "std": there.std(ddof=0), "scored": len(there)}
            counts = {"undefined": len(values) - len(there), "skipped": len(of_method) - len(explained)}
            rows.append({**dict(zip(KEYS, keys, strict=True)), "score": score, **numbers, **counts})
    return pd.DataFrame(rows)


def title_of(row: Mapping[str, Any]) -> str:
    """Name of a row's method with stage and aggregator, as :attr:`.AttributionMethod.title`."""
    stage = f"stage {row['stage']}" if row["stage"] else ""
    return ", ".join(part for part in (row["method"], stage, row["aggregator"]) if part)
