"""ADCC."""

from torch import Tensor, nn

from refinecam.core.running import Targets
from refinecam.metrics.average_drop import average_drop_of
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.coherency import coherency_of
from refinecam.metrics.complexity import complexity
from refinecam.metrics.evaluation import Confidence, MapEvaluation, Method
from refinecam.metrics.formulas import harmonic_mean


def adcc(
    model: nn.Module, images: Tensor, targets: Targets, maps: Tensor, method: Method, confidence: Confidence = "softmax"
) -> Tensor:
    r"""Average Drop, Coherency and Complexity in one (Poppi et al., CVPRW 2021).

    .. math::
        \mathrm{ADCC} = 3 \Big( \frac{1}{\mathrm{Coherency}} + \frac{1}{1 - \mathrm{Complexity}}
        + \frac{1}{1 - \mathrm{AverageDrop}} \Big)^{-1}

    0 where a term is 0. Fooled by trivial maps, as Average Drop is.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W).
        targets: explained classes, int64, shape (N,), a list or an array, one for all, or None for the predicted.
        maps: attribution maps of the images, shape (N, 1, H, W), in [0, 1].
        method: what made them; it is asked again, for the masked images.
        confidence: of the targets, ``"softmax"`` among all classes, or ``"sigmoid"`` for a network with several labels.

    Returns:
        Shape (N,), in [0, 1]; higher is better. NaN where the map is constant.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    return ADCC().score(MapEvaluation(model, images, targets, maps, method, confidence=confidence))


@register("adcc", needs_method=True)
class ADCC(PerImageMean):
    """Mean :func:`adcc` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return harmonic_mean(coherency_of(evaluation), 1 - complexity(evaluation.maps), 1 - average_drop_of(evaluation))
