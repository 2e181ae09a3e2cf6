"""The folder of an evaluation: tables, written batch by batch, from which everything else is made."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refinecam.core.errors import InputError

MANIFEST = "evaluation.json"
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
        if self.parts.exists():
            number = next(n for n in range(1, 10_000) if not Path(f"{self.parts}-{n}").exists())
            self.parts.rename(f"{self.parts}-{number}")
        (self.parts / "maps").mkdir(parents=True)
        _write(self.parts / MANIFEST, lambda path: path.write_text(json.dumps(about, indent=1)))

    @property
    def about(self) -> dict[str, Any]:
        """What was evaluated.

        Raises:
            InputError: if the folder has no evaluation.
        """
        path = self.folder / MANIFEST
        if not path.is_file():
            raise InputError(f"folder: {self.folder} has no {MANIFEST}; name the output of an evaluation")
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"folder: {path} cannot be read ({error}); evaluate again") from error

    def add(self, table: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of one batch; ``name`` is the batch's own among all processes."""
        if rows:
            folder = self.parts / table
            folder.mkdir(exist_ok=True)
            _write(folder / f"{name}.parquet", partial(pd.DataFrame(rows).to_parquet, index=False))

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
        earlier = self.about.get("tables", []) if (self.folder / MANIFEST).is_file() else []
        for name in names:
            parts = [pd.read_parquet(path) for path in sorted((self.parts / name).glob("*.parquet"))]
            joined = pd.concat(parts, ignore_index=True).sort_values("index", kind="stable", ignore_index=True)
            _write(self.folder / f"{name}.parquet", partial(joined.to_parquet, index=False))
        for name in set(earlier) - set(names):
            (self.folder / f"{name}.parquet").unlink(missing_ok=True)
        (self.folder / "maps").mkdir(exist_ok=True)
        for path in (self.folder / "maps").glob("*.npz"):
            path.unlink()
        for path in sorted((self.parts / "maps").iterdir())[:kept]:
            path.replace(self.folder / "maps" / path.name)
        about = {**json.loads((self.parts / MANIFEST).read_text()), "tables": names}
        _write(self.folder / MANIFEST, lambda path: path.write_text(json.dumps(about, indent=1)))
        shutil.rmtree(self.parts)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by its name.

        Raises:
            InputError: if one is missing.
        """
        try:
            return {name: pd.read_parquet(self.folder / f"{name}.parquet") for name in self.about["tables"]}
        except FileNotFoundError as error:
            raise InputError(f"folder: {error.filename} is missing; evaluate again") from error


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its target and rename it."""
    beside = path.with_name(f".{path.name}.tmp")
    write(beside)
    beside.replace(path)


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
