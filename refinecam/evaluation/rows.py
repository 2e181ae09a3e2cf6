"""Rows of the table and the metrics that they are fed into."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from refinecam.core.errors import InputError
from refinecam.evaluation.table import KEYS
from refinecam.metrics import PerImageMean


def scores_in(metrics: nn.Module) -> list[PerImageMean]:
    """One method's metrics."""
    return [metric for metric in metrics.children() if isinstance(metric, PerImageMean)]


def check_finite(logits: Tensor, batch: Mapping[str, Any]) -> None:
    """Refuse a network whose outputs are not numbers.

    Raises:
        InputError: naming the image.
    """
    broken = ~logits.isfinite().all(1)
    if broken.any():
        index = int(batch["index"][broken][0])
        what = "the images are not finite" if not batch["image"].isfinite().all() else "are its weights?"
        raise InputError(f"checkpoint: the network's output for image {index} is not finite; {what}")


def so_far(metrics: nn.Module) -> str:
    """The mean of the score that the bar has room for."""
    known = {metric.title: metric for metric in scores_in(metrics) if metric.scored}
    shown = known.get("arcc") or next(iter(known.values()), None)
    return "" if shown is None else f", {shown.title} {float(shown.total / shown.scored):.3f} so far"


def key_of(method: Any) -> tuple[str, str, str]:
    """What names a method in the table: name, stage and aggregator."""
    return method.name, method.stage_title, method.aggregator or ""


def named(method: Any, index: int) -> dict[str, Any]:
    """The columns that name a row."""
    return {"index": index, **dict(zip(KEYS, key_of(method), strict=True))}


def feed(metrics: nn.Module, rows: Sequence[dict[str, Any] | None]) -> None:
    """Add the scores of a batch, new ones and earlier ones, to one method's metrics."""
    explained = [row for row in rows if row is not None and not row["skipped"]]
    for metric in scores_in(metrics):
        metric.skip(len(rows) - len(explained))
        metric.update(torch.tensor([row[metric.title] for row in explained], dtype=torch.float64, device=metric.device))


def spread(values: Tensor, keep: Tensor) -> Tensor:
    """Values of the kept images at their places among all; NaN at the others."""
    spread = values.new_full((len(keep), *values.shape[1:]), torch.nan)
    spread[keep] = values
    return spread
