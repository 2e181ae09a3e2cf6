"""Insertion and deletion: how the confidence moves while pixels come or go by relevance."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from refinecam.core.errors import InputError, check_choice, check_counts
from refinecam.core.running import Targets
from refinecam.imputation import impute
from refinecam.metrics.base import PerImageMean, register
from refinecam.metrics.evaluation import Confidence, MapEvaluation, shared

Fill = Literal["mean", "blur", "imputed"]
BLUR = 11
"""Window of the Gaussian in pixels, with a standard deviation of 5: about RISE's, made for images of 224 px."""


def deletion(
    model: nn.Module,
    images: Tensor,
    targets: Targets,
    maps: Tensor,
    steps: int = 20,
    fill: Fill = "mean",
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    confidence: Confidence = "softmax",
) -> Tensor:
    """Area under the confidence while the most relevant pixels go first (RISE; Petsiuk et al., BMVC 2018).

    Pixels go by rank, equal ones in a seeded random order, in equal steps until none is left; the area is the
    trapezoidal rule's. RISE itself takes 224 steps for an image of 224 px.

    Args:
        model: classifier, images to logits.
        images: normalized images, shape (N, C, H, W).
        targets: explained classes, int64, shape (N,), a list or an array, one for all, or None for the predicted.
        maps: attribution maps, shape (N, 1, H, W), in [0, 1].
        steps: how many; the network runs ``steps`` + 1 times for each map.
        fill: what stands where pixels are missing: the ``"mean"`` color (0; RISE's choice for deletion), a ``"blur"``
            of the image (RISE's choice for insertion), or ``"imputed"`` values, ROAD's without noise, which hide the
            form of the holes.
        seed: seed of the order among equal pixels.
        index: identity of each image, shape (N,); None takes the images' own values as identity.
        confidence: of the targets, ``"softmax"`` among all classes, or ``"sigmoid"`` for a network with several labels.

    Returns:
        Shape (N,), in [0, 1]; lower is better.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    evaluation = MapEvaluation(model, images, targets, maps, seed=seed, index=index, confidence=confidence)
    return perturbation_curve(evaluation, "deletion", steps, fill)[1]


def insertion(
    model: nn.Module,
    images: Tensor,
    targets: Targets,
    maps: Tensor,
    steps: int = 20,
    fill: Fill = "blur",
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    confidence: Confidence = "softmax",
) -> Tensor:
    """Area under the confidence while the most relevant pixels come first (RISE; Petsiuk et al., BMVC 2018).

    Arguments are those of :func:`deletion`; the image starts as ``fill`` alone.

    Returns:
        Shape (N,), in [0, 1]; higher is better.

    Raises:
        InputError: if shapes or ranges do not fit.
    """
    evaluation = MapEvaluation(model, images, targets, maps, seed=seed, index=index, confidence=confidence)
    return perturbation_curve(evaluation, "insertion", steps, fill)[1]


def perturbation_curve(
    evaluation: MapEvaluation, kind: Literal["deletion", "insertion"], steps: int = 20, fill: Fill = "mean"
) -> tuple[Tensor, Tensor]:
    """Confidence of the target after each step, and the area under it.

    Args:
        evaluation: of the maps.
        kind: whether the most relevant pixels go or come.
        steps: how many.
        fill: see :func:`deletion`.

    Returns:
        The curve, shape (N, ``steps`` + 1), from the start to the end, and its area, shape (N,), both in [0, 1]; NaN
        for a map that is not finite.

    Raises:
        InputError: for another ``fill`` or less than one step.
    """
    check_perturbation(steps, fill)
    curve = _curve(evaluation, kind, steps, fill)
    return curve, torch.trapezoid(curve, dx=1 / steps, dim=1)


def check_perturbation(steps: int, fill: str) -> None:
    """Refuse less than one step, and an unknown filling.

    Raises:
        InputError: naming the argument.
    """
    check_counts(steps=steps)
    check_choice(get_args(Fill), fill=fill)


@shared
def _curve(evaluation: MapEvaluation, kind: str, steps: int, fill: str) -> Tensor:
    if not len(evaluation.images):
        return evaluation.images.new_zeros(0, steps + 1)
    images, ranks = evaluation.images, evaluation.ranks
    if fill == "blur" and min(images.shape[2:]) <= BLUR // 2:
        raise InputError(f"fill: a blur needs images larger than {BLUR // 2} px, got {tuple(images.shape[2:])}")
    total = images.shape[2] * images.shape[3]
    shares = torch.arange(steps + 1, dtype=torch.float64) / steps
    counts = (shares * total).round().long().to(images.device)[:, None, None, None]
    curves = []
    for i, image in enumerate(images.split(1)):
        moved = ranks[i] >= total - counts
        missing = moved if kind == "deletion" else ~moved
        if fill == "imputed":
            perturbed = impute(image.expand(steps + 1, -1, -1, -1), missing)
        else:
            instead = gaussian_blur(image, [BLUR, BLUR], [5.0, 5.0]) if fill == "blur" else image.new_zeros(())
            perturbed = torch.where(missing, instead, image)
        curves.append(evaluation.confidence(perturbed, evaluation.targets[i].expand(steps + 1)))
    curve = torch.stack(curves)
    return curve.masked_fill(~evaluation.maps.flatten(1).isfinite().all(1)[:, None], torch.nan)


class PerturbationScore(PerImageMean):
    """Mean area under a perturbation curve.

    Args:
        steps: of the curve.
        fill: what stands where pixels are missing.
    """

    kind: Literal["deletion", "insertion"]

    def __init__(self, steps: int, fill: Fill) -> None:
        super().__init__()
        check_perturbation(steps, fill)
        self.steps, self.fill = steps, fill

    def score(self, evaluation: MapEvaluation) -> Tensor:  # noqa: D102
        return perturbation_curve(evaluation, self.kind, self.steps, self.fill)[1]

    @property
    def note(self) -> str:  # noqa: D102
        return f"{self.steps} steps, {self.fill} where pixels are missing"


@register("deletion", on_request=True)
class Deletion(PerturbationScore):
    """Mean :func:`deletion` over the images seen."""

    kind, higher_is_better = "deletion", False

    def __init__(self, steps: int = 20, fill: Fill = "mean") -> None:
        super().__init__(steps, fill)


@register("insertion", on_request=True)
class Insertion(PerturbationScore):
    """Mean :func:`insertion` over the images seen."""

    kind, higher_is_better = "insertion", True

    def __init__(self, steps: int = 20, fill: Fill = "blur") -> None:
        super().__init__(steps, fill)
