"""FunnyBirds' scores over a data set (Hesse et al., ICCV 2023), from rows of its images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from refinecam.data.funnybirds.evaluation import BirdEvaluation
from refinecam.data.funnybirds.parts import PARTS
from refinecam.data.funnybirds.scores import THRESHOLDS

CURVES = {
    "csdc": "controlled_synthetic_data_check",
    "pc": "preservation_check",
    "dc": "deletion_check",
    "distracted": "distracted_share",
}
"""Scores of each image at each of the 80 thresholds, by their column."""


class FunnyBirdsSummary(NamedTuple):
    """The scores of one method, all in [0, 1] but for rounding, higher is better; NaN where no image has one.

    Attributes:
        accuracy: of the classifier.
        csdc: Controlled Synthetic Data Check.
        pc: Preservation Check.
        dc: Deletion Check.
        distractibility: D.
        background_independence: BI, of the classifier.
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


def bird_rows(evaluation: BirdEvaluation) -> list[dict[str, Any]]:
    """One row an image: everything that the data set's scores are made of."""
    independent, objects = evaluation.batch.background_independence.T
    columns = {
        "correct": evaluation.batch.predictions == evaluation.batch.labels,
        "undefined": evaluation.undefined,
        "independent": independent,
        "objects": objects,
        "single_deletion": evaluation.single_deletion,
        "target_sensitivity": evaluation.target_sensitivity,
        **{name: getattr(evaluation, attribute) for name, attribute in CURVES.items()},
        "importance": evaluation.importance[:, : len(PARTS)],
    }
    values = {name: column.tolist() for name, column in columns.items()}
    return [{name: column[i] for name, column in values.items()} for i in range(len(evaluation.maps))]


def summarize_birds(rows: pd.DataFrame | Sequence[dict[str, Any]]) -> FunnyBirdsSummary:
    """The scores over a data set, from the rows of one method: :func:`bird_rows` of all its images.

    The threshold is chosen over the data set, not for each image.
    """
    table = pd.DataFrame(rows)

    def mean(name: str) -> tuple[Any, int]:
        values = np.array(table[name].tolist(), np.float64)
        there = values[np.isfinite(values.reshape(len(values), -1)).all(1)]
        return (there.sum(0) / len(there) if len(there) else np.full(values.shape[1:], np.nan)), len(there)

    (csdc, csdc_images), (pc, _), (dc, _) = (mean(name) for name in ("csdc", "pc", "dc"))
    distracted, distractibility_images = mean("distracted")
    single, single_images = mean("single_deletion")
    sensitivity, sensitivity_images = mean("target_sensitivity")
    # The authors' divisor, which decides ties between thresholds.
    share = distracted * distractibility_images / (distractibility_images + 1e-8)
    distractibility = 1 - share if distractibility_images else np.ones_like(pc)
    # In the order of the authors' sums, whose rounding decides between thresholds that are as good.
    complete = csdc / 3 + pc / 3 + dc / 3 + distractibility
    best = int(np.argmax(np.nan_to_num(complete, nan=-np.inf)))
    parts = float(complete[best] / 2), float(single), float(sensitivity)
    return FunnyBirdsSummary(
        accuracy=float(table["correct"].mean()),
        csdc=float(csdc[best]),
        pc=float(pc[best]),
        dc=float(dc[best]),
        distractibility=float(distractibility[best]),
        background_independence=float(table["independent"].sum() / table["objects"].sum()),
        threshold=THRESHOLDS[best].item(),
        completeness=parts[0],
        correctness=parts[1],
        contrastivity=parts[2],
        score=sum(parts) / 3,
        images=len(table),
        undefined=int(table["undefined"].sum()),
        csdc_images=csdc_images,
        distractibility_images=distractibility_images,
        single_deletion_images=single_images,
        target_sensitivity_images=sensitivity_images,
    )


def per_image_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Each image's own FunnyBirds score, at its method's threshold over the data set.

    As of the data set: the mean of Completeness, Correctness and Contrastivity, here of those that the image has; the
    rank correlation, the reaction to parts and what is irrelevant are not defined for each image. The paper's
    FunnyBirds score of a data set is no mean of these.

    Args:
        rows: of all images and methods.

    Returns:
        Columns index, method, stage, aggregator, funnybirds.
    """
    keys = ["method", "stage", "aggregator"]
    result = []
    for _, own in rows.groupby(keys, sort=False):
        best = int(np.argmin(np.abs(THRESHOLDS.numpy() - summarize_birds(own).threshold)))

        def curve(name: str, own: pd.DataFrame = own, best: int = best) -> np.ndarray:
            return np.array([values[best] for values in own[name]], np.float64)

        complete = pd.DataFrame({name: curve(name) for name in ("csdc", "pc", "dc")}).mean(axis=1)
        complete = pd.concat([complete, pd.Series(1 - curve("distracted"))], axis=1).mean(axis=1)
        parts = [complete, *(own[name].reset_index(drop=True) for name in ("single_deletion", "target_sensitivity"))]
        score = pd.concat(parts, axis=1).astype("float64").mean(axis=1)
        result.append(own[["index", *keys]].assign(funnybirds=score.to_numpy()))
    return pd.concat(result, ignore_index=True)
