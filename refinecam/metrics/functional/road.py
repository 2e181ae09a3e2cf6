"""ROAD."""

from collections.abc import Sequence

from torch import Tensor, nn

from refinecam.metrics.functional.map_evaluation import PERCENTILES, MapEvaluation
from refinecam.metrics.functional.ranking import Ranking


def road(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    ranking: Ranking = "exact",
) -> Tensor:
    r"""Remove and debias: does the class survive without the least, and die without the most relevant pixels?

    .. math:: \mathrm{ROAD} = \frac{1}{|P|} \sum_{p \in P} y_c(\mathrm{LeRF}_p) - y_c(\mathrm{MoRF}_p)

    LeRF_p has the p% least relevant pixels imputed, MoRF_p the p% most relevant (Rong et al., ICML 2022; combined as
    in How to Evaluate and Refine your CAM). The share is exact: pixels go by rank, equal ones in a seeded random
    order. Not halved, unlike grad-cam's ``ROADCombined``.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W).
        targets: explained classes, int64, shape (N,).
        maps: attribution maps, shape (N, 1, H, W), in [0, 1].
        percentiles: shares of pixels to impute, in percent.
        noise: standard deviation of the noise on imputed pixels, in normalized units.
        seed: seed of the noise and of the order among equal pixels.
        index: identity of each image, shape (N,); None takes the images' own values as identity.
        ranking: ``"percentile"`` removes by grad-cam's rule, for comparisons with it: all pixels at or above a
            percentile, however many are equal to it, which leaves little of maps with large plateaus.

    Returns:
        Shape (N,), in [-1, 1]; higher is better. About 0 for a map that knows nothing.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    return MapEvaluation(
        model, images, targets, maps, percentiles=percentiles, noise=noise, seed=seed, index=index, ranking=ranking
    ).road
