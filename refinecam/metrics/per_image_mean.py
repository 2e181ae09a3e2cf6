"""The mean of a per-image score over all images of all processes."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from refinecam.core.errors import InputError
from refinecam.metrics.functional.map_evaluation import MapEvaluation


class Summary(NamedTuple):
    """A data set's score: over the scored images, with the numbers of those that were not.

    Attributes:
        mean: mean of the per-image scores, NaN if there are none.
        std: their standard deviation (divided by the number of scores).
        scored: images with a score.
        undefined: images whose map is constant or not finite, or whose score is not defined.
        skipped: images that were not explained, for example because they were misclassified.
    """

    mean: float
    std: float
    scored: int
    undefined: int
    skipped: int


class PerImageMean(Metric, ABC):
    """Accumulates one score for each image as sums, so that many processes give what one gives.

    An undefined map has no score: it is left out of the mean and counted beside it.
    In a ``MetricCollection`` use ``compute_groups=False``: scores that tie on the first batch are not the same.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    squares: Tensor
    scored: Tensor
    undefined: Tensor
    skipped: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("scored", "undefined", "skipped"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @abstractmethod
    def score(self, evaluation: MapEvaluation) -> Tensor:
        """The score of each image, shape (N,)."""

    def per_image(self, evaluation: MapEvaluation) -> Tensor:
        """The score of each image, shape (N,), float32; NaN where the map is constant or not finite."""
        return self.score(evaluation).float().masked_fill(evaluation.undefined, torch.nan)

    def update(self, evaluation: MapEvaluation) -> None:
        """Add the images of one batch.

        Raises:
            InputError: if it is no :class:`~refinecam.metrics.functional.MapEvaluation`.
        """
        if not isinstance(evaluation, MapEvaluation):
            raise InputError(
                f"evaluation: {type(self).__name__} scores a MapEvaluation, got {type(evaluation).__name__}"
            )
        scores = self.per_image(evaluation).double()
        defined = scores[scores.isfinite()]
        self.total += defined.sum()
        self.squares += (defined**2).sum()
        self.scored += len(defined)
        self.undefined += len(scores) - len(defined)

    def skip(self, count: int) -> None:
        """Count images that were not explained."""
        self.skipped += count

    def compute(self) -> Tensor:
        """Mean over the scored images, float64; NaN if there are none."""
        return self.total / self.scored

    def summary(self) -> Summary:
        """Mean, standard deviation and counts over the images of all processes."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            mean = self.total / self.scored
            variance = (self.squares / self.scored - mean**2).clamp(min=0)
            counts = [int(count) for count in (self.scored, self.undefined, self.skipped)]
            return Summary(mean.item(), variance.sqrt().item(), *counts)
