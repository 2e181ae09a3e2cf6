"""Coherency."""

from torch import Tensor, nn

from refinecam.core.running import Targets
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import MapEvaluation, Method, shared
from refinecam.metrics.formulas import pearson


def coherency(model: nn.Module, images: Tensor, targets: Targets, maps: Tensor, method: Method) -> Tensor:
    r"""Whether a method finds again what it has shown (Poppi et al., CVPRW 2021).

    .. math:: \mathrm{Coherency} = \tfrac{1}{2}\big(1 + \rho(M(x),\, M(x \odot M(x)))\big)

    ρ is Pearson's correlation; the second map is made from scratch by the whole method. Where it is constant, ρ is 0.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W).
        targets: explained classes, int64, shape (N,), a list or an array, one for all, or None for the predicted.
        maps: attribution maps of the images, shape (N, 1, H, W), in [0, 1].
        method: what made them; it is asked again, for the masked images.

    Returns:
        Shape (N,), in [0, 1]; higher is better. NaN where the map is constant.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    return coherency_of(MapEvaluation(model, images, targets, maps, method))


@shared
def coherency_of(evaluation: MapEvaluation) -> Tensor:
    """The same of an evaluation, which asks the method once for all scores that need it."""
    return (pearson(evaluation.maps, evaluation.masked_maps) + 1) / 2


@register("coherency", needs_method=True)
class Coherency(PerImageMean):
    """Mean :func:`coherency` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return coherency_of(evaluation)
