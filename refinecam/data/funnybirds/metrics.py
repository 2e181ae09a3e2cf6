"""FunnyBirds' scores over a data set (Hesse et al., ICCV 2023)."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from refinecam.data.funnybirds.evaluation import BirdEvaluation
from refinecam.data.funnybirds.scores import THRESHOLDS

Array = NDArray[np.float64]


class FunnyBirdsSummary(NamedTuple):
    """The scores of one method, all in [0, 1] but for rounding, higher is better; NaN where no image has one.

    Attributes:
        accuracy: of the classifier.
        csdc: Controlled Synthetic Data Check.
        pc: Preservation Check.
        dc: Deletion Check.
        distractibility: D.
        background_independence: BI, of the classifier.
        single_deletion: SD.
        target_sensitivity: TS.
        threshold: the one of 80 at which (CSDC + PC + DC) / 3 + D is highest, the lowest of equals.
        completeness: ((CSDC + PC + DC) / 3 + D) / 2.
        correctness: SD.
        contrastivity: TS.
        score: mean of the three.
        images: that were seen.
        undefined: images of which a map is not finite: by it nothing is important, and SD has no value.
        csdc_images: that CSDC counts, the ones classified correctly.
        distractibility_images: with anything irrelevant.
        single_deletion_images: with a rank correlation.
        target_sensitivity_images: in which the network reacts to the parts as TS presumes.
    """

    accuracy: float
    csdc: float
    pc: float
    dc: float
    distractibility: float
    background_independence: float
    single_deletion: float
    target_sensitivity: float
    threshold: float
    completeness: float
    correctness: float
    contrastivity: float
    score: float
    images: int
    undefined: int
    csdc_images: int
    distractibility_images: int
    single_deletion_images: int
    target_sensitivity_images: int


def at_best_threshold(
    csdc: Array,
    pc: Array,
    dc: Array,
    distractibility: Array,
    single_deletion: float,
    target_sensitivity: float,
    **rest: Any,
) -> FunnyBirdsSummary:
    """Choose the threshold over the data set, and make up the three scores.

    Args:
        csdc: means for each threshold, shape (80,).
        pc: likewise.
        dc: likewise.
        distractibility: likewise.
        single_deletion: mean.
        target_sensitivity: mean.
        rest: the summary's other fields.
    """
    # In the order of the authors' sums, whose rounding decides between thresholds that are as good.
    complete = csdc / 3 + pc / 3 + dc / 3 + distractibility
    best = int(np.argmax(np.nan_to_num(complete, nan=-np.inf)))
    parts = complete[best] / 2, single_deletion, target_sensitivity
    return FunnyBirdsSummary(
        csdc=float(csdc[best]),
        pc=float(pc[best]),
        dc=float(dc[best]),
        distractibility=float(distractibility[best]),
        single_deletion=single_deletion,
        target_sensitivity=target_sensitivity,
        threshold=THRESHOLDS[best].item(),
        completeness=float(parts[0]),
        correctness=parts[1],
        contrastivity=parts[2],
        score=float(sum(parts) / 3),
        **rest,
    )


COUNTED = ("csdc", "distractibility", "single_deletion", "target_sensitivity")
"""Scores that not every image has."""


class BirdMetric(Metric, ABC):
    """Mean over the images that have the score, kept as sums, so that many processes give what one gives.

    Update it with a :class:`~refinecam.data.funnybirds.evaluation.BirdEvaluation`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    scored: Tensor

    def __init__(self, size: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("scored", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @abstractmethod
    def score(self, evaluation: BirdEvaluation) -> Tensor:
        """The score of each image, shape (N,) or, for each threshold, (N, 80); NaN where it has none."""

    def update(self, evaluation: BirdEvaluation) -> None:
        """Add the images of one batch."""
        scores = self.score(evaluation).double()
        there = scores[scores.flatten(1).isfinite().all(1)] if scores.ndim > 1 else scores[scores.isfinite()]
        self.total += there.sum(0)
        self.scored += len(there)

    def compute(self) -> Tensor:
        """Mean over the images with a score, float64; NaN if there are none."""
        return self.total / self.scored

    def count(self) -> int:
        """How many images have the score, over all processes."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            return int(self.scored)


class ThresholdCurve(BirdMetric):
    """A score that depends on the threshold of importance: ``compute`` gives a mean for each, shape (80,)."""

    def __init__(self) -> None:
        super().__init__((len(THRESHOLDS),))


class ControlledSyntheticDataCheck(ThresholdCurve):
    """CSDC: how much of a minimal sufficient set of parts a map calls important; misclassified images are skipped."""

    def score(self, evaluation: BirdEvaluation) -> Tensor:  # noqa: D102
        return evaluation.controlled_synthetic_data_check


class PreservationCheck(ThresholdCurve):
    """PC: does the prediction stay if only the important parts are left?"""

    def score(self, evaluation: BirdEvaluation) -> Tensor:  # noqa: D102
        return evaluation.preservation_check


class DeletionCheck(ThresholdCurve):
    """DC: does the prediction change if the important parts are removed?"""

    def score(self, evaluation: BirdEvaluation) -> Tensor:  # noqa: D102
        return evaluation.deletion_check


class Distractibility(ThresholdCurve):
    """D: 1 minus the share of irrelevant parts and background objects that a map calls important."""

    def score(self, evaluation: BirdEvaluation) -> Tensor:
        """1 - D, which is what is added up, as the authors do: it decides ties between thresholds."""
        return evaluation.distracted_share

    def compute(self) -> Tensor:
        """D for each threshold; 1 if nothing was irrelevant in any image."""
        return 1 - self.total / (self.scored + 1e-8)


class SingleDeletion(BirdMetric):
    """SD: rank correlation of the parts' importances with what removing them costs, mapped to [0, 1]."""

    def score(self, evaluation: BirdEvaluation) -> Tensor:  # noqa: D102
        return evaluation.single_deletion


class TargetSensitivity(BirdMetric):
    """TS: do the maps of two classes prefer the parts that each shares with the bird?"""

    def score(self, evaluation: BirdEvaluation) -> Tensor:  # noqa: D102
        return evaluation.target_sensitivity


class BirdAccuracy(BirdMetric):
    """Share of images that the classifier gets right."""

    def score(self, evaluation: BirdEvaluation) -> Tensor:  # noqa: D102
        return (evaluation.batch.predictions == evaluation.batch.labels).double()


class BackgroundIndependence(BirdMetric):
    """BI: share of all background objects whose removal costs less than 5% of the label's logit."""

    def score(self, evaluation: BirdEvaluation) -> Tensor:
        """Share of each image's own objects, shape (N,); NaN where there are none."""
        independent, objects = evaluation.batch.background_independence.T
        return independent / objects

    def update(self, evaluation: BirdEvaluation) -> None:
        """Add the objects of one batch: the mean is over objects, not over images."""
        independent, objects = evaluation.batch.background_independence.sum(0)
        self.total += independent
        self.scored += objects


class UndefinedMaps(BirdMetric):
    """Share of images of which a map is not finite."""

    higher_is_better = False

    def score(self, evaluation: BirdEvaluation) -> Tensor:  # noqa: D102
        return evaluation.undefined.double()


class FunnyBirdsScore(MetricCollection):
    """All of FunnyBirds' scores; the threshold is chosen over the data set, not for each image.

    >>> metric = FunnyBirdsScore()
    >>> sorted(metric.keys())[:3]
    ['accuracy', 'background_independence', 'csdc']
    """

    def __init__(self) -> None:
        metrics: dict[str, Metric | MetricCollection] = {
            "accuracy": BirdAccuracy(),
            "csdc": ControlledSyntheticDataCheck(),
            "pc": PreservationCheck(),
            "dc": DeletionCheck(),
            "distractibility": Distractibility(),
            "background_independence": BackgroundIndependence(),
            "single_deletion": SingleDeletion(),
            "target_sensitivity": TargetSensitivity(),
            "undefined": UndefinedMaps(),
        }
        super().__init__(metrics, compute_groups=False)

    def compute(self) -> dict[str, Any]:
        """The fields of :class:`FunnyBirdsSummary` by name."""
        return self.summary()._asdict()

    def summary(self) -> FunnyBirdsSummary:
        """Scores at the best threshold, and the three that they make up, over the images of all processes."""
        result: dict[str, Tensor] = super().compute()
        counted = {name: cast(BirdMetric, self[name]).count() for name in ("accuracy", *COUNTED)}
        scores: dict[str, Any] = {
            name: value.cpu().numpy() if value.ndim else float(value) for name, value in result.items()
        }
        share, images = scores.pop("undefined"), counted["accuracy"]
        return at_best_threshold(
            **scores,
            images=images,
            undefined=round(share * images) if images else 0,
            **{f"{name}_images": counted[name] for name in COUNTED},  # type: ignore[arg-type]
        )
