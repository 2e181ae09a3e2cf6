"""The per-image table: written as it grows, merged at the end."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch


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
        """Make the folders. Rows that an interrupted run has left are moved aside to ``parts-1`` and so on."""
        if self.parts.exists() and any(self.parts.iterdir()):
            number = next(n for n in range(1, 10_000) if not self.parts.with_name(f"parts-{n}").exists())
            self.parts.rename(self.parts.with_name(f"parts-{number}"))
        shutil.rmtree(self.kept, ignore_errors=True)
        for folder in (self.parts, self.kept):
            folder.mkdir(parents=True, exist_ok=True)

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
