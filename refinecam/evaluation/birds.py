"""FunnyBirds' scores in an evaluation: for each method a metric, rows of a table, a line of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from refinecam.attribution import AttributionMethod
from refinecam.data.funnybirds import BirdBatch, BirdEvaluation, FunnyBirdsScore, FunnyBirdsSummary
from refinecam.data.funnybirds.parts import PARTS
from refinecam.evaluation.report import BirdsReport, method_columns

PER_IMAGE = ("background_independence", "single_deletion", "target_sensitivity")
"""Scores that each image has by itself; the others need the threshold, which is the data set's."""
CURVES = ("controlled_synthetic_data_check", "preservation_check", "deletion_check", "distractibility")


class BirdScorer:
    """Scores FunnyBirds' images, also misclassified ones, as the authors do.

    Args:
        methods: attribution methods, by which the other arguments' rows are counted.
        classes: entries of classes.json.
        device: where the sums are kept.
        chunk: images that go through the network at once; None takes what suits the device.
    """

    def __init__(
        self,
        methods: Sequence[AttributionMethod],
        classes: Sequence[Mapping[str, Any]],
        device: torch.device,
        chunk: int | None = None,
    ) -> None:
        self.methods, self.classes, self.chunk = methods, classes, chunk
        self.metrics = [FunnyBirdsScore().to(device) for _ in methods]
        self.batch: BirdBatch | None = None

    def start(self, network: nn.Module, batch: Mapping[str, Tensor]) -> None:
        """Take the next batch: images, labels, part maps and all interventions."""
        self.batch = BirdBatch(
            network,
            batch["image"],
            batch["label"],
            batch["part_map"],
            batch["subsets"],
            batch["removals"],
            batch["objects"],
            self.classes,
            chunk=self.chunk,
        )

    def score(self, place: int, target: str) -> tuple[Tensor, dict[str, Tensor]]:
        """Explain the batch by one method and add its scores.

        Args:
            place: of the method.
            target: ``"label"`` or ``"predicted"``, the class of the maps that are returned.

        Returns:
            Maps (N, 1, H, W), and :data:`PER_IMAGE`, :data:`CURVES`, the parts' ``importance`` and the number of
            background ``objects``, a row an image.
        """
        assert self.batch is not None
        method, batch = self.methods[place], self.batch
        evaluation = BirdEvaluation(batch, method(batch.model, batch.images, batch.labels), method)
        self.metrics[place].update(evaluation)
        independent, objects = batch.background_independence.T
        scores = {"background_independence": independent / objects}
        scores |= {name: getattr(evaluation, name) for name in (*PER_IMAGE[1:], *CURVES)}
        scores |= {"importance": evaluation.importance[:, : len(PARTS)], "objects": objects}
        return evaluation.maps if target == "label" else evaluation.predicted_maps, scores

    def rows(self, place: int, index: Tensor, scores: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """Rows of the table ``funnybirds``: everything that the data set's scores are made of."""
        columns = {name: values.tolist() for name, values in scores.items()}
        return [
            {"index": i, **method_columns(self.methods[place]), **{name: columns[name][row] for name in columns}}
            for row, i in enumerate(index.tolist())
        ]

    def report(self) -> BirdsReport:
        """Each method's scores over all images of all processes; to be called by all of them."""
        found = [(method, metric.summary()) for method, metric in zip(self.methods, self.metrics, strict=True)]
        table = pd.DataFrame([{**method_columns(method), **summary._asdict()} for method, summary in found])
        values = {
            f"funnybirds_{name}/{method.title}": float(value)
            for method, summary in found
            for name, value in summary._asdict().items()
        }
        return BirdsReport(table, birds_markdown(found), values)


def birds_markdown(summaries: Sequence[tuple[AttributionMethod, FunnyBirdsSummary]]) -> str:
    """One line a method: the FunnyBirds score and what it is made of."""
    names = {
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
    lines = [f"| method | stage | {' | '.join(names.values())} |", "|" + "---|" * (len(names) + 2)]
    for method, summary in summaries:
        columns = method_columns(method)
        title = ", ".join(part for part in (columns["method"], columns["aggregator"]) if part)
        cells = " | ".join(f"{getattr(summary, name):.3f}" for name in names)
        lines.append(f"| {title} | {columns['stage']} | {cells} |")
    first = summaries[0][1]
    heading = (
        f"FunnyBirds over {first.images} images, the misclassified ones too: accuracy {first.accuracy:.1%}, background "
        f"independence {first.background_independence:.3f}. CSDC counts {first.csdc_images} of them, those that are "
        f"classified right (with 0 for the last class, as published); D {first.distractibility_images}, in which the "
        f"network does not need everything; Contrastivity {first.target_sensitivity_images}, in which it reacts to the "
        "parts as that presumes."
    )
    missing = [
        f"{method.title}: Correctness of {summary.single_deletion_images} images, {summary.undefined} undefined maps."
        for method, summary in summaries
        if summary.undefined or summary.single_deletion_images < summary.images
    ]
    return "\n".join([heading, "", *lines, *(["", *missing] if missing else [])]) + "\n"
