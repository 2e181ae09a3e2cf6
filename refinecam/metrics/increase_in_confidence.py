"""Increase in Confidence."""

import torch
from torch import Tensor, nn

from refinecam.core.running import Targets
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import Confidence, MapEvaluation


def increase_in_confidence(
    model: nn.Module, images: Tensor, targets: Targets, maps: Tensor, confidence: Confidence = "softmax"
) -> Tensor:
    r"""Whether what the map shows alone is more convincing than the whole image (Chattopadhyay et al., WACV 2018).

    .. math:: \mathrm{Increase} = \mathbb{1}[\,y_c(x) < y_c(x \odot M)\,]

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W); the product is taken on them, so 0 is the mean color.
        targets: explained classes, int64, shape (N,), a list or an array, one for all, or None for the predicted.
        maps: attribution maps, shape (N, 1, H, W), in [0, 1].
        confidence: of the targets, ``"softmax"`` among all classes, or ``"sigmoid"`` for a network with several labels.

    Returns:
        Shape (N,), 0 or 1; higher is better.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    return IncreaseInConfidence().score(MapEvaluation(model, images, targets, maps, confidence=confidence))


@register("increase_in_confidence")
class IncreaseInConfidence(PerImageMean):
    """Mean :func:`increase_in_confidence` over the images seen."""

    higher_is_better = True

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        increase = (evaluation.clean_confidence < evaluation.masked_confidence).float()
        return increase.masked_fill(evaluation.masked_confidence.isnan(), torch.nan)
