"""ARCC."""

from collections.abc import Sequence

from torch import Tensor, nn

from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.coherency import coherency_of
from refinecam.metrics.complexity import complexity
from refinecam.metrics.evaluation import MapEvaluation, Method
from refinecam.metrics.formulas import harmonic_mean
from refinecam.metrics.ranking import Ranking
from refinecam.metrics.road import PERCENTILES, check_road, road_note, road_of


def arcc(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    method: Method,
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    ranking: Ranking = "exact",
) -> Tensor:
    r"""ROAD, Coherency and Complexity in one (How to Evaluate and Refine your CAM, ICPR 2026).

    .. math::
        \mathrm{ARCC} = 3 \Big( \frac{1}{\mathrm{Coherency}} + \frac{1}{1 - \mathrm{Complexity}}
        + \frac{1}{R} \Big)^{-1}, \quad R = \min(1, \max(0, \mathrm{ROAD}))

    0 where a term is 0.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W).
        targets: explained classes, int64, shape (N,).
        maps: attribution maps of the images, shape (N, 1, H, W), in [0, 1].
        method: what made them; it is asked again, for the masked images.
        percentiles: see :func:`~refinecam.metrics.road`.
        noise: likewise.
        seed: likewise.
        index: likewise.
        ranking: likewise.

    Returns:
        Shape (N,), in [0, 1]; higher is better. NaN where the map is constant.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    evaluation = MapEvaluation(model, images, targets, maps, method, seed=seed, index=index)
    return ARCC(percentiles, noise, ranking).score(evaluation)


@register("arcc")
class ARCC(PerImageMean):
    """Mean :func:`arcc` over the images seen.

    Args:
        percentiles: see :func:`~refinecam.metrics.road`.
        noise: likewise.
        ranking: likewise.
    """

    higher_is_better = True

    def __init__(
        self, percentiles: Sequence[float] = PERCENTILES, noise: float = 0.01, ranking: Ranking = "exact"
    ) -> None:
        super().__init__()
        self.percentiles, self.noise, self.ranking = check_road(percentiles, noise, ranking)

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        road = road_of(evaluation, self.percentiles, self.noise, self.ranking)
        return harmonic_mean(coherency_of(evaluation), 1 - complexity(evaluation.maps), road.clamp(0, 1))

    @property
    def note(self) -> str:  # noqa: D102
        return "" if self.title == self.name else f"ROAD {road_note(self.percentiles, self.noise, self.ranking)}"
