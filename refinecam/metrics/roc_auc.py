"""Area under the ROC curve of a map's pixels."""

import torch
from torch import Tensor

from refinecam.core.precision import narrow, wide
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import MapEvaluation
from refinecam.metrics.formulas import check_masks
from refinecam.metrics.ranking import plateaus


def roc_auc(maps: Tensor, masks: Tensor) -> Tensor:
    """Chance that a pixel on the object is higher than one beside it (Fawcett, Pattern Recognition Letters 2006).

    Pixels that are equal, to one part in 100,000, count half, so that a map without knowledge scores 0.5.

    Args:
        maps: attribution maps, shape (N, 1, H, W), values in [0, 1].
        masks: ground truth, same shape, values 0 and 1.

    Returns:
        Shape (N,), in [0, 1]; higher is better. NaN where a mask is 0 or 1 everywhere, or the map is not finite.

    Raises:
        InputError: if the shapes differ or a value is out of range.

    >>> import torch
    >>> roc_auc(torch.tensor([[[[0.2, 0.6, 1.0]]]]), torch.tensor([[[[0.0, 1.0, 0.0]]]]))
    tensor([0.5000])
    """
    check_masks(maps, masks)
    values, order = maps.flatten(1).sort(1)
    truth, level = wide(masks.flatten(1).gather(1, order)), plateaus(values)
    # The mean rank of all equal pixels, from 1.
    below, through = (torch.searchsorted(level, level, right=right) for right in (False, True))
    ranks = wide(below + through + 1) / 2
    positives = truth.sum(1)
    pairs = positives * (truth.shape[1] - positives)
    area = ((ranks * truth).sum(1) - positives * (positives + 1) / 2) / pairs
    return narrow(area, maps).masked_fill(~values.isfinite().all(1), torch.nan)


@register("roc_auc", needs_masks=True)
class ROCAUC(PerImageMean):
    """Mean :func:`roc_auc` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return roc_auc(evaluation.maps, evaluation.masks)
