"""ROAD, and the noisy imputation that it is made of."""

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from refinecam.core.errors import check_choice, check_range
from refinecam.core.running import Targets
from refinecam.core.seeding import generator, identities
from refinecam.imputation import impute
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import Confidence, MapEvaluation, shared
from refinecam.metrics.ranking import (
    Ranking,
    check_percentiles,
    missing_by_percentile,
    missing_pixels,
)

PERCENTILES = (20, 40, 60, 80)


def road(
    model: nn.Module,
    images: Tensor,
    targets: Targets,
    maps: Tensor,
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    ranking: Ranking = "exact",
    confidence: Confidence = "softmax",
) -> Tensor:
    r"""Remove and debias: does the class survive without the least, and die without the most relevant pixels?

    .. math:: \mathrm{ROAD} = \frac{1}{|P|} \sum_{p \in P} y_c(\mathrm{LeRF}_p) - y_c(\mathrm{MoRF}_p)

    LeRF_p has the p% least relevant pixels imputed, MoRF_p the p% most relevant (Rong et al., ICML 2022; combined as
    in How to Evaluate and Refine your CAM). The share is exact: pixels go by rank, equal ones in a seeded random
    order. Not halved, unlike grad-cam's ``ROADCombined``.

    Pixels that differ by less than one part in 100,000 are equal. So ROAD is the same for a monotone transform of the
    map, but for one that brings different pixels so close: of ``0.5 + maps / 10**6`` all pixels are equal.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W).
        targets: explained classes, int64, shape (N,), a list or an array, one for all, or None for the predicted.
        maps: attribution maps, shape (N, 1, H, W), in [0, 1].
        percentiles: shares of pixels to impute, in percent.
        noise: standard deviation of the noise on imputed pixels, in normalized units.
        seed: seed of the noise and of the order among equal pixels.
        index: identity of each image, shape (N,); None takes the images' own values as identity.
        ranking: ``"percentile"`` removes by grad-cam's rule, for comparisons with it: all pixels at or above a
            percentile, however many are equal to it, which leaves little of maps with large plateaus.
        confidence: of the targets, ``"softmax"`` among all classes, or ``"sigmoid"`` for a network with several labels.

    Returns:
        Shape (N,), in [-1, 1]; higher is better. About 0 for a map that knows nothing.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    options = check_road(percentiles, noise, ranking)
    return road_of(MapEvaluation(model, images, targets, maps, seed=seed, index=index, confidence=confidence), *options)


def check_road(
    percentiles: Sequence[float], noise: float, ranking: Ranking
) -> tuple[tuple[float, ...], float, Ranking]:
    """ROAD's options, once they are known to be right.

    Raises:
        InputError: naming the argument.
    """
    check_percentiles(percentiles)
    check_range(0, noise=noise)
    check_choice(get_args(Ranking), ranking=ranking)
    return tuple(percentiles), noise, ranking


@shared
def road_of(evaluation: MapEvaluation, percentiles: tuple[float, ...], noise: float, ranking: Ranking) -> Tensor:
    """:func:`road` of an evaluation; all imputed copies of a few images at once go through the network."""
    scores = []
    step = max(1, evaluation.chunk // (2 * len(percentiles)))
    for first in range(0, len(evaluation.images), step):
        rows = slice(first, first + step)
        images, maps = evaluation.images[rows], evaluation.maps[rows]
        if ranking == "percentile":
            missing = missing_by_percentile(maps, percentiles)
        else:
            missing = missing_pixels(evaluation.ranks[rows], percentiles)
        copies = missing.shape[1]
        filled = impute(images.repeat_interleave(copies, 0), missing.flatten(0, 1)).unflatten(0, (-1, copies))
        filled = filled + missing * noise_field(images, noise, evaluation.seed, evaluation.keys[rows]).unsqueeze(1)
        targets = evaluation.targets[rows].repeat_interleave(copies)
        least, most = evaluation.confidence(filled.flatten(0, 1), targets).unflatten(0, (-1, 2, copies // 2)).unbind(1)
        scores.append((least - most).mean(1))
    road = torch.cat(scores) if scores else evaluation.clean_confidence
    return road.masked_fill(~evaluation.maps.flatten(1).isfinite().all(1), torch.nan)


class RoadScore(PerImageMean):
    """A score that ROAD is a part of.

    Args:
        percentiles: shares of pixels to impute, in percent.
        noise: standard deviation of the noise on imputed pixels, in normalized units.
        ranking: see :func:`road`.
    """

    higher_is_better = True

    def __init__(
        self, percentiles: Sequence[float] = PERCENTILES, noise: float = 0.01, ranking: Ranking = "exact"
    ) -> None:
        super().__init__()
        self.percentiles, self.noise, self.ranking = check_road(percentiles, noise, ranking)

    def road(self, evaluation: MapEvaluation) -> Tensor:
        """ROAD of each image, shape (N,)."""
        return road_of(evaluation, self.percentiles, self.noise, self.ranking)

    @property
    def note(self) -> str:  # noqa: D102
        shares = ", ".join(f"{share:g}" for share in self.percentiles)
        rule = "" if self.ranking == "exact" else ", by grad-cam's percentile rule"
        return f"ROAD is the mean over {shares}% of LeRF minus MoRF, not halved, noise {self.noise:g}{rule}"


@register("road")
class ROAD(RoadScore):
    """Mean :func:`road` over the images seen."""

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return self.road(evaluation)


def noisy_linear_imputation(
    images: Tensor,
    missing: Tensor,
    noise: float = 0.01,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Fill missing pixels with the weighted mean of their neighbors and add a little noise (Rong et al., 2022).

    Args:
        images: normalized images, shape (N, C, H, W).
        missing: bool, shape (N, 1, H, W), True where a pixel is to be filled.
        noise: standard deviation of the noise on filled pixels, in normalized units.
        seed: seed of the noise.
        index: identity of each image, shape (N,); None takes the images' own values as identity.

    Returns:
        Filled images, shape (N, C, H, W). An image without any known pixel becomes noise around 0.

    Raises:
        InputError: if the shapes do not belong together, or the noise is negative.

    >>> image = torch.tensor([[[[1.0, 5.0, 1.0]]]])
    >>> noisy_linear_imputation(image, image == 5, noise=0)
    tensor([[[[1., 1., 1.]]]])
    """
    check_range(0, noise=noise)
    filled = impute(images, missing)
    return filled + missing * noise_field(images, noise, seed, identities(images, index))


def noise_field(images: Tensor, noise: float, seed: int, keys: Sequence[int]) -> Tensor:
    """Normal noise for each image, the same on every device."""
    if not noise or not len(images):
        return torch.zeros_like(images)
    shape = tuple(images.shape[1:])
    fields = [generator(seed, "road/noise", key).standard_normal(shape, np.float32) for key in keys]
    return noise * torch.from_numpy(np.stack(fields)).to(images)
