"""The per-image table: written as it grows, merged at the end."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

KEYS = ["index", "method", "stage", "aggregator", "label", "predicted"]


class ResultsFolder:
    """Where an evaluation writes.

    While it runs, each process writes a small file for each batch into ``parts/``, a folder that
    :func:`pandas.read_parquet` reads as one table: what was computed survives whatever happens later.

    Args:
        folder: made if missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.parts = self.folder / "parts"
        self.kept = self.folder / "parts-maps"

    def start(self) -> None:
        """Make the folder and clear the parts that an interrupted run may have left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.parts, self.kept):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def add_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of one batch; ``name`` is the batch's own among all processes."""
        pd.DataFrame(rows).to_parquet(self.parts / f"{name}.parquet", index=False)

    def add_maps(self, index: int, content: Mapping[str, Any]) -> None:
        """Keep one image with its maps for the figure."""
        torch.save(dict(content), self.kept / f"{index:09d}.pt")

    def maps(self, count: int) -> list[dict[str, Any]]:
        """The kept images with the lowest indices."""
        return [torch.load(path, weights_only=True) for path in sorted(self.kept.iterdir())[:count]]

    def merge(self) -> pd.DataFrame:
        """Join the parts into ``per_image.parquet``, sorted by image, in the order of the methods."""
        tables = [pd.read_parquet(path) for path in sorted(self.parts.glob("*.parquet"))]
        table = pd.concat(tables, ignore_index=True).sort_values("index", kind="stable", ignore_index=True)
        table.to_parquet(self.folder / "per_image.parquet", index=False)
        return table

    def finish(self) -> None:
        """Remove the parts, once everything made of them is written."""
        shutil.rmtree(self.parts)
        shutil.rmtree(self.kept)
