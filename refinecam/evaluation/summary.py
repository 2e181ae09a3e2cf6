"""The table of a whole evaluation: one line for each method and score."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from refinecam.metrics import Summary


class SummaryRow(NamedTuple):
    """One score of one method over the data set."""

    method: str
    stage: str
    aggregator: str
    score: str
    summary: Summary


def summary_table(rows: Sequence[SummaryRow]) -> pd.DataFrame:
    """Long table: method, stage, aggregator, score, then mean, std and the counts."""
    return pd.DataFrame([{**row._asdict(), **row.summary._asdict()} for row in rows]).drop(columns="summary")


def summary_markdown(table: pd.DataFrame, heading: str) -> str:
    """One line a method: mean ± std of every score, how many images were scored, how many had no score."""
    scores = list(dict.fromkeys(table["score"]))
    lines = ["| method | stage | " + " | ".join(scores) + " | scored | undefined |"]
    lines.append("|" + "---|" * (len(scores) + 4))
    for (method, stage, aggregator), group in table.groupby(["method", "stage", "aggregator"], sort=False):
        cells = [f"{row['mean']:.3f} ± {row['std']:.3f}" for _, row in group.iterrows()]
        title = f"{method}, {aggregator}" if aggregator else method
        counts = [str(group["scored"].min()), str(group["undefined"].max())]
        lines.append(f"| {' | '.join([str(title), str(stage), *cells, *counts])} |")
    return f"{heading}\n\n" + "\n".join(lines) + "\n"
