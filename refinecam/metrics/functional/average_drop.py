"""Average Drop."""

from torch import Tensor, nn

from refinecam.metrics.functional.map_evaluation import MapEvaluation


def average_drop(model: nn.Module, images: Tensor, targets: Tensor, maps: Tensor) -> Tensor:
    r"""How much confidence is lost when only what the map shows is kept (Chattopadhyay et al., WACV 2018).

    .. math:: \mathrm{AverageDrop} = \frac{\max(0,\; y_c(x) - y_c(x \odot M))}{y_c(x)}

    Fooled by maps that keep everything.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W); the product is taken on them, so 0 is the mean color.
        targets: explained classes, int64, shape (N,).
        maps: attribution maps, shape (N, 1, H, W), in [0, 1].

    Returns:
        Shape (N,), in [0, 1]; lower is better.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    return MapEvaluation(model, images, targets, maps).average_drop
