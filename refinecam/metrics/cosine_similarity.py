"""Cosine to the ground truth."""

from torch import Tensor

from refinecam.core.precision import narrow, wide
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import MapEvaluation
from refinecam.metrics.formulas import check_masks


def cosine_similarity(maps: Tensor, masks: Tensor) -> Tensor:
    r"""Cosine of the angle between a map and the ground-truth mask.

    .. math:: \cos(M, T) = \frac{\langle M, T \rangle}{\lVert M \rVert \lVert T \rVert}

    Args:
        maps: attribution maps, shape (N, 1, H, W), values in [0, 1].
        masks: ground truth, same shape, values 0 and 1.

    Returns:
        Cosine of each pair, shape (N,), in [0, 1]; higher is better. NaN where a map or a mask is 0 everywhere.

    Raises:
        InputError: if the shapes differ or a value is out of range.

    >>> import torch
    >>> cosine_similarity(torch.ones(1, 1, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))
    tensor([0.5000])
    """
    check_masks(maps, masks)
    a, b = wide(maps.flatten(1)), wide(masks.flatten(1))
    return narrow((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)), maps)


@register("cosine_similarity", needs_masks=True)
class CosineSimilarity(PerImageMean):
    """Mean :func:`cosine_similarity` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return cosine_similarity(evaluation.maps, evaluation.masks)
