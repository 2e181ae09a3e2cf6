"""Coherency."""

from typing import Literal, get_args

from torch import Tensor, nn

from refinecam.core.errors import check_choice
from refinecam.core.running import Targets
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import MapEvaluation, Method, shared
from refinecam.metrics.formulas import pearson

Masking = Literal["after", "before"]
Recomputed = Literal["all", "first"]


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
def coherency_of(evaluation: MapEvaluation, masking: Masking = "after", recomputed: Recomputed = "all") -> Tensor:
    """The same of an evaluation, which asks the method once for all scores that need it.

    Args:
        evaluation: of the maps.
        masking: whether the map is multiplied ``"after"`` normalization, so that 0 is the mean color, or ``"before"``,
            so that it is black.
        recomputed: which factors of a refined map are made again: ``"all"``, or the ``"first"`` alone, as in the
            paper's public code.
    """
    if (masking, recomputed) == ("after", "all"):
        again = evaluation.masked_maps
    else:
        masked = evaluation.masked_before() if masking == "before" else evaluation.masked_images
        again = evaluation.maps_again(masked, recomputed)
    return (pearson(evaluation.maps, again) + 1) / 2


def check_coherency(masking: str, recomputed: str) -> None:
    """Refuse unknown options.

    Raises:
        InputError: naming the argument.
    """
    check_choice(get_args(Masking), masking=masking)
    check_choice(get_args(Recomputed), recomputed=recomputed)


@register("coherency", needs_method=True)
class Coherency(PerImageMean):
    """Mean :func:`coherency` over the images seen.

    Args:
        masking: see :func:`~refinecam.metrics.coherency.coherency_of`.
        recomputed: likewise.
    """

    higher_is_better = True

    def __init__(self, masking: Masking = "after", recomputed: Recomputed = "all") -> None:
        super().__init__()
        check_coherency(masking, recomputed)
        self.masking, self.recomputed = masking, recomputed

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return coherency_of(evaluation, self.masking, self.recomputed)
