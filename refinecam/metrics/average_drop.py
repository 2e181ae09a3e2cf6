"""Average Drop."""

from torch import Tensor, nn

from refinecam.core.running import Targets
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import Confidence, MapEvaluation, shared
from refinecam.metrics.formulas import relative_drop


def average_drop(
    model: nn.Module, images: Tensor, targets: Targets, maps: Tensor, confidence: Confidence = "softmax"
) -> Tensor:
    r"""How much confidence is lost when only what the map shows is kept (Chattopadhyay et al., WACV 2018).

    .. math:: \mathrm{AverageDrop} = \frac{\max(0,\; y_c(x) - y_c(x \odot M))}{y_c(x)}

    Fooled by maps that keep everything.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W); the product is taken on them, so 0 is the mean color.
        targets: explained classes, int64, shape (N,), a list or an array, one for all, or None for the predicted.
        maps: attribution maps, shape (N, 1, H, W), in [0, 1].
        confidence: of the targets, ``"softmax"`` among all classes, or ``"sigmoid"`` for a network with several labels.

    Returns:
        Shape (N,), in [0, 1]; lower is better.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    return average_drop_of(MapEvaluation(model, images, targets, maps, confidence=confidence))


@shared
def average_drop_of(evaluation: MapEvaluation) -> Tensor:
    """The same of maps whose confidences may be known already."""
    return relative_drop(evaluation.clean_confidence, evaluation.masked_confidence)


@register("average_drop")
class AverageDrop(PerImageMean):
    """Mean :func:`average_drop` over the images seen."""

    higher_is_better = False

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return average_drop_of(evaluation)
