"""The table of an evaluation, a row for each image and method, and its summary."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

KEYS = ("method", "stage", "aggregator")
"""Columns that name a method."""


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


def escaped(text: str) -> str:
    """A name as Markdown shows it, whatever is in it."""
    return " ".join(html.escape(str(text), quote=False).replace("|", "\\|").split())


def title_of(row: Mapping[str, Any]) -> str:
    """Name of a row's method with stage and aggregator, as :attr:`.AttributionMethod.title`."""
    stage = f"stage {row['stage']}" if row["stage"] else ""
    return ", ".join(part for part in (row["method"], stage, row["aggregator"]) if part)
