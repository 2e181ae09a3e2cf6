"""Mass accuracy."""

from torch import Tensor

from refinecam.core.precision import narrow, wide
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import MapEvaluation
from refinecam.metrics.formulas import check_masks


def mass_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Share of the map that lies on the object (relevance mass accuracy, Arras et al., Information Fusion 2022).

    .. math:: \frac{\sum M \odot T}{\sum M}

    Args:
        maps: attribution maps, shape (N, 1, H, W), values in [0, 1].
        masks: ground truth, same shape, values 0 and 1.

    Returns:
        Shape (N,), in [0, 1]; higher is better. NaN where a map or a mask is 0 everywhere.

    Raises:
        InputError: if the shapes differ or a value is out of range.

    >>> import torch
    >>> mass_accuracy(torch.tensor([[[[0.5, 1.0, 0.5]]]]), torch.tensor([[[[0.0, 1.0, 0.0]]]]))
    tensor([0.5000])
    """
    check_masks(maps, masks)
    values, truth = wide(maps.flatten(1)), wide(masks.flatten(1))
    share = (values * truth).sum(1) / values.sum(1)
    return narrow(share.masked_fill(truth.sum(1) == 0, float("nan")), maps)


@register("mass_accuracy", needs_masks=True)
class MassAccuracy(PerImageMean):
    """Mean :func:`mass_accuracy` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return mass_accuracy(evaluation.maps, evaluation.masks)
