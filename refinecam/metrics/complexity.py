"""Complexity."""

from torch import Tensor

from refinecam.core.precision import narrow, wide
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import MapEvaluation
from refinecam.metrics.formulas import check_maps


def complexity(maps: Tensor) -> Tensor:
    r"""Share of the image that a map marks as important (Poppi et al., CVPRW 2021).

    .. math:: \mathrm{Complexity}(M) = \frac{\lVert M \rVert_1}{HW}

    Args:
        maps: attribution maps, shape (N, 1, H, W), values in [0, 1].

    Returns:
        Complexity of each map, shape (N,), in [0, 1]; lower is better.

    Raises:
        InputError: if ``maps`` has another shape or leaves [0, 1].

    >>> import torch
    >>> complexity(torch.ones(1, 1, 2, 2))
    tensor([1.])
    """
    check_maps(maps)
    return narrow(wide(maps).mean((1, 2, 3)), maps)  # sums in half precision are off by more than a thousandth


@register("complexity")
class Complexity(PerImageMean):
    """Mean :func:`complexity` over the images seen."""

    higher_is_better = False

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return complexity(evaluation.maps)
