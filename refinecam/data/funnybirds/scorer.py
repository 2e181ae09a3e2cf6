"""FunnyBirds' scores in an evaluation: rows of a table, and what is made of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from refinecam.data.base import REPORTS, Method, OwnReport, OwnScores
from refinecam.data.funnybirds.evaluation import BirdBatch, BirdEvaluation
from refinecam.data.funnybirds.metrics import FunnyBirdsSummary, at_best_threshold
from refinecam.data.funnybirds.parts import PARTS

CURVES = {
    "csdc": "controlled_synthetic_data_check",
    "pc": "preservation_check",
    "dc": "deletion_check",
    "distracted": "distracted_share",
}
"""Scores of each image at each of the 80 thresholds, by their column."""
NAMES = {
    "score": "FunnyBirds",
    "completeness": "Completeness",
    "correctness": "Correctness",
    "contrastivity": "Contrastivity",
    "csdc": "CSDC",
    "pc": "PC",
    "dc": "DC",
    "distractibility": "D",
    "threshold": "threshold",
}
"""Columns of the report for people."""


class BirdScorer:
    """Scores FunnyBirds' images, also misclassified ones, as the authors do.

    Args:
        classes: entries of classes.json.
        chunk: images that go through the network at once; None takes what suits the device.
    """

    table = "funnybirds"

    def __init__(self, classes: Sequence[Mapping[str, Any]], chunk: int | None = None) -> None:
        self.classes, self.chunk = classes, chunk
        self.batch: BirdBatch | None = None

    def start(self, network: nn.Module, batch: Mapping[str, Tensor]) -> None:
        """Take the next batch: images, labels, part maps and all interventions."""
        names = ("image", "label", "part_map", "subsets", "removals", "objects")
        images, labels, part_maps, subsets, removals, objects = (batch[name] for name in names)
        self.batch = BirdBatch(
            network, images, labels, part_maps, subsets, removals, objects, self.classes, chunk=self.chunk
        )

    def score(self, method: Method, targets: Tensor) -> OwnScores:
        """Explain and score the batch by one method."""
        assert self.batch is not None
        batch = self.batch
        result = BirdEvaluation(batch, method(batch.model, batch.images, batch.labels), method)
        of_label = (targets == batch.labels)[:, None, None, None]
        independent, objects = batch.background_independence.T
        per_image = {
            "background_independence": independent / objects,
            "single_deletion": result.single_deletion,
            "target_sensitivity": result.target_sensitivity,
        }
        columns = {
            "correct": batch.predictions == batch.labels,
            "undefined": result.undefined,
            "independent": independent,
            "objects": objects,
            **per_image,
            **{name: getattr(result, attribute) for name, attribute in CURVES.items()},
            "importance": result.importance[:, : len(PARTS)],
        }
        values = {name: column.tolist() for name, column in columns.items()}
        rows = [{name: column[i] for name, column in values.items()} for i in range(len(targets))]
        return OwnScores(torch.where(of_label, result.maps, result.predicted_maps), per_image, rows)


def summarize_birds(table: pd.DataFrame) -> FunnyBirdsSummary:
    """The scores over a data set, of one method's rows."""

    def mean(name: str) -> tuple[Any, int]:
        values = np.array(table[name].tolist(), np.float64)
        there = values[np.isfinite(values.reshape(len(values), -1)).all(1)]
        return there.sum(0) / max(len(there), 1) if len(there) else np.full(values.shape[1:], np.nan), len(there)

    (csdc, csdc_images), (pc, _), (dc, _) = (mean(name) for name in ("csdc", "pc", "dc"))
    distracted, distractibility_images = mean("distracted")
    single, single_images = mean("single_deletion")
    sensitivity, sensitivity_images = mean("target_sensitivity")
    return at_best_threshold(
        csdc=csdc,
        pc=pc,
        dc=dc,
        distractibility=1 - (distracted if distractibility_images else 0 * pc),
        accuracy=table["correct"].mean(),
        background_independence=table["independent"].sum() / table["objects"].sum(),
        single_deletion=float(single),
        target_sensitivity=float(sensitivity),
        images=len(table),
        undefined=int(table["undefined"].sum()),
        csdc_images=csdc_images,
        distractibility_images=distractibility_images,
        single_deletion_images=single_images,
        target_sensitivity_images=sensitivity_images,
    )


def birds_report(table: pd.DataFrame) -> OwnReport:
    """One line a method: the FunnyBirds score and what it is made of."""
    keys = ["method", "stage", "aggregator"]
    result = {key: summarize_birds(rows) for key, rows in table.groupby(keys, sort=False)}
    whole = pd.DataFrame([{**dict(zip(keys, key, strict=True)), **s._asdict()} for key, s in result.items()])
    titles = [", ".join(filter(None, (m, f"stage {s}" if s else "", a))) for m, s, a in result]
    shown = whole.assign(method=[", ".join(filter(None, (m, a))) for m, _, a in result])[["method", "stage", *NAMES]]
    lines = shown.rename(columns=NAMES).to_markdown(index=False, floatfmt=".3f", disable_numparse=[0, 1])
    first = next(iter(result.values()))
    heading = (
        f"FunnyBirds over {first.images} images, the misclassified ones too: accuracy {first.accuracy:.1%}, background "
        f"independence {first.background_independence:.3f}. CSDC counts {first.csdc_images} of them, those that are "
        f"classified correctly (with 0 for the last class, as published); D {first.distractibility_images}, in which "
        f"the network does not need everything; Contrastivity {first.target_sensitivity_images}, in which it reacts to "
        "the parts as that presumes."
    )
    missing = [
        f"{title}: Correctness of {summary.single_deletion_images} images, {summary.undefined} undefined maps."
        for title, summary in zip(titles, result.values(), strict=True)
        if summary.undefined or summary.single_deletion_images < summary.images
    ]
    values = {
        f"funnybirds_{name}/{title}": float(value)
        for title, summary in zip(titles, result.values(), strict=True)
        for name, value in summary._asdict().items()
    }
    return OwnReport(whole, "\n\n".join([heading, lines, *missing]) + "\n", values)


REPORTS["funnybirds"] = birds_report
