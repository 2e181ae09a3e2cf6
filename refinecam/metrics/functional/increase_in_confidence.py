"""Increase in Confidence."""

from torch import Tensor, nn

from refinecam.metrics.functional.map_evaluation import MapEvaluation


def increase_in_confidence(model: nn.Module, images: Tensor, targets: Tensor, maps: Tensor) -> Tensor:
    r"""Whether what the map shows alone is more convincing than the whole image (Chattopadhyay et al., WACV 2018).

    .. math:: \mathrm{Increase} = \mathbb{1}[\,y_c(x) < y_c(x \odot M)\,]

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W); the product is taken on them, so 0 is the mean color.
        targets: explained classes, int64, shape (N,).
        maps: attribution maps, shape (N, 1, H, W), in [0, 1].

    Returns:
        Shape (N,), 0 or 1; higher is better.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    return MapEvaluation(model, images, targets, maps).increase_in_confidence
