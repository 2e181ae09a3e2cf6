"""The tables of an evaluation: written as they grow, merged at the end."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from warnings import warn

import pandas as pd
import torch

TABLES = {"per_image": "parts", "predictions": "parts-predictions", "funnybirds": "parts-funnybirds"}
"""Folder of each table's parts."""
FILES = (
    *(f"{table}.parquet" for table in TABLES),
    *("accuracy.csv", "accuracy.md", "summary.csv", "summary.md", "funnybirds.csv", "maps.png"),
)
"""What an evaluation can write."""


class ResultsFolder:
    """Where an evaluation writes.

    While it runs, each process writes a small file for each batch into ``parts/`` (scores), ``parts-predictions/`` and
    ``parts-funnybirds/``, folders that :func:`pandas.read_parquet` reads as one table: what was computed survives
    whatever happens later.

    Args:
        folder: made if missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.parts = {table: self.folder / name for table, name in TABLES.items()}
        self.kept = self.folder / "parts-maps"

    def start(self) -> None:
        """Make the folders. Rows that an interrupted run has left are moved aside to ``parts-1`` and so on."""
        left = [parts for parts in self.parts.values() if parts.exists() and any(parts.iterdir())]
        numbers = (n for n in range(1, 10_000) if not any(Path(f"{parts}-{n}").exists() for parts in left))
        number = next(numbers)
        for parts in left:
            parts.rename(f"{parts}-{number}")
        shutil.rmtree(self.kept, ignore_errors=True)
        for folder in (*self.parts.values(), self.kept):
            folder.mkdir(parents=True, exist_ok=True)

    def add_rows(self, table: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of one batch to a table; ``name`` is the batch's own among all processes."""
        pd.DataFrame(rows).to_parquet(self.parts[table] / f"{name}.parquet", index=False)

    def add_maps(self, index: int, content: Mapping[str, Any]) -> None:
        """Keep one image with its maps for the figure."""
        torch.save(dict(content), self.kept / f"{index:09d}.pt")

    def maps(self, count: int) -> list[dict[str, Any]]:
        """The kept images with the lowest indices."""
        return [torch.load(path, weights_only=True) for path in sorted(self.kept.iterdir())[:count]]

    def merge(self, table: str) -> pd.DataFrame:
        """Join a table's parts into one file, sorted by image, in the order of the methods."""
        found = [pd.read_parquet(path) for path in sorted(self.parts[table].glob("*.parquet"))]
        joined = pd.concat(found, ignore_index=True).sort_values("index", kind="stable", ignore_index=True)
        joined.to_parquet(self.folder / f"{table}.parquet", index=False)
        return joined

    def finish(self, written: Sequence[str]) -> None:
        """Remove the parts, once everything made of them is written; say what beside it is an earlier run's."""
        for folder in (*self.parts.values(), self.kept):
            shutil.rmtree(folder)
        older = [name for name in FILES if name not in written and (self.folder / name).exists()]
        if older:
            warn(f"output: {self.folder} also has results of an earlier run: {', '.join(older)}", stacklevel=3)
