"""ARCC."""

from collections.abc import Sequence

from torch import Tensor, nn

from refinecam.core.running import Targets
from refinecam.metrics.base import register
from refinecam.metrics.coherency import Masking, Recomputed, check_coherency, coherency_of
from refinecam.metrics.complexity import complexity
from refinecam.metrics.evaluation import Confidence, MapEvaluation, Method
from refinecam.metrics.formulas import harmonic_mean
from refinecam.metrics.ranking import Ranking
from refinecam.metrics.road import PERCENTILES, RoadScore


def arcc(
    model: nn.Module,
    images: Tensor,
    targets: Targets,
    maps: Tensor,
    method: Method,
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    ranking: Ranking = "exact",
    confidence: Confidence = "softmax",
) -> Tensor:
    r"""ROAD, Coherency and Complexity in one (How to Evaluate and Refine your CAM, ICPR 2026).

    .. math::
        \mathrm{ARCC} = 3 \Big( \frac{1}{\mathrm{Coherency}} + \frac{1}{1 - \mathrm{Complexity}}
        + \frac{1}{R} \Big)^{-1}, \quad R = \min(1, \max(0, \mathrm{ROAD}))

    0 where a term is 0.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W).
        targets: explained classes, int64, shape (N,), a list or an array, one for all, or None for the predicted.
        maps: attribution maps of the images, shape (N, 1, H, W), in [0, 1].
        method: what made them; it is asked again, for the masked images.
        percentiles: see :func:`~refinecam.metrics.functional.road`.
        noise: likewise.
        seed: likewise.
        index: likewise.
        ranking: likewise.
        confidence: of the targets, ``"softmax"`` among all classes, or ``"sigmoid"`` for a network with several labels.

    Returns:
        Shape (N,), in [0, 1]; higher is better. NaN where the map is constant.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    evaluation = MapEvaluation(model, images, targets, maps, method, seed=seed, index=index, confidence=confidence)
    return ARCC(percentiles, noise, ranking).score(evaluation)


@register("arcc", needs_method=True)
class ARCC(RoadScore):
    """Mean :func:`arcc` over the images seen.

    Args:
        percentiles: see :func:`~refinecam.metrics.functional.road`.
        noise: likewise.
        ranking: likewise.
        masking: of Coherency, see :func:`~refinecam.metrics.coherency.coherency_of`.
        recomputed: likewise.
    """

    def __init__(
        self,
        percentiles: Sequence[float] = PERCENTILES,
        noise: float = 0.01,
        ranking: Ranking = "exact",
        masking: Masking = "after",
        recomputed: Recomputed = "all",
    ) -> None:
        super().__init__(percentiles, noise, ranking)
        check_coherency(masking, recomputed)
        self.masking, self.recomputed = masking, recomputed

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        coherency = coherency_of(evaluation, self.masking, self.recomputed)
        return harmonic_mean(coherency, 1 - complexity(evaluation.maps), self.road(evaluation).clamp(0, 1))
