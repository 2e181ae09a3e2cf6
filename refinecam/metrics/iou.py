"""Intersection over union at the area of the ground truth."""

from collections.abc import Sequence

import torch
from torch import Tensor

from refinecam.core.seeding import identities
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import MapEvaluation
from refinecam.metrics.formulas import check_masks
from refinecam.metrics.ranking import relevance_ranks


def iou(maps: Tensor, masks: Tensor, seed: int = 0, index: Sequence[int] | Tensor | None = None) -> Tensor:
    r"""Overlap of the object with as many of the map's highest pixels (the Jaccard index).

    The map is cut where it leaves as many pixels as the object has, so that no threshold has to be chosen (as in the
    relevance rank accuracy r of Arras et al., Information Fusion 2022; this is r / (2 - r)). Equal pixels go in a
    seeded random order.

    Args:
        maps: attribution maps, shape (N, 1, H, W), values in [0, 1].
        masks: ground truth, same shape, values 0 and 1.
        seed: seed of the order among equal pixels.
        index: identity of each image, shape (N,); None takes the values of map and mask as identity.

    Returns:
        Shape (N,), in [0, 1]; higher is better. NaN where a mask is 0 everywhere or the map is not finite.

    Raises:
        InputError: if the shapes differ or a value is out of range.

    >>> import torch
    >>> iou(torch.tensor([[[[0.1, 0.9, 1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0, 0.0, 1.0]]]]))
    tensor([0.3333])
    """
    check_masks(maps, masks)
    return iou_of_ranks(relevance_ranks(maps, seed, identities(torch.cat([maps, masks], 1), index)), maps, masks)


def iou_of_ranks(ranks: Tensor, maps: Tensor, masks: Tensor) -> Tensor:
    """The same from ranks that are there already."""
    truth, positions = masks.flatten(1).bool(), ranks.flatten(1)
    area = truth.sum(1, keepdim=True)
    shared = (truth & (positions >= positions.shape[1] - area)).sum(1)
    return (shared / (2 * area.squeeze(1) - shared)).masked_fill(~maps.flatten(1).isfinite().all(1), torch.nan)


@register("iou", needs_masks=True)
class IoU(PerImageMean):
    """Mean :func:`iou` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        check_masks(evaluation.maps, evaluation.masks)
        return iou_of_ranks(evaluation.ranks, evaluation.maps, evaluation.masks)
