"""Pointing game."""

from torch import Tensor

from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import MapEvaluation
from refinecam.metrics.formulas import check_masks
from refinecam.metrics.ranking import TIE


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether the map's highest pixel lies on the object (Zhang et al., IJCV 2018, without their 15 px of tolerance).

    Where several pixels are highest, to one part in 100,000, the share of them that does: what picking one gives on
    average.

    Args:
        maps: attribution maps, shape (N, 1, H, W), values in [0, 1].
        masks: ground truth, same shape, values 0 and 1.

    Returns:
        Shape (N,), in [0, 1]; higher is better. NaN where a mask is 0 everywhere or the map is not finite.

    Raises:
        InputError: if the shapes differ or a value is out of range.

    >>> import torch
    >>> pointing_game(torch.tensor([[[[0.2, 1.0, 1.0]]]]), torch.tensor([[[[0.0, 1.0, 0.0]]]]))
    tensor([0.5000])
    """
    check_masks(maps, masks)
    highest = maps.flatten(1) >= maps.amax((1, 2, 3))[:, None] * (1 - TIE)
    truth = masks.flatten(1).bool()
    hits = (highest & truth).sum(1) / highest.sum(1)
    return hits.masked_fill(~truth.any(1), float("nan"))


@register("pointing_game", needs_masks=True)
class PointingGame(PerImageMean):
    """Mean :func:`pointing_game` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return pointing_game(evaluation.maps, evaluation.masks)
