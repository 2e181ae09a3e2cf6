"""FunnyBirds' scores in an evaluation: rows of a table, and what is made of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from refinecam.data.base import REPORTS, Method, OwnReport, OwnScores
from refinecam.data.funnybirds.evaluation import BirdBatch, BirdEvaluation
from refinecam.data.funnybirds.summary import bird_rows, summarize_birds

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
        columns = {
            "background_independence": independent / objects,
            "single_deletion": result.single_deletion,
            "target_sensitivity": result.target_sensitivity,
        }
        maps = torch.where(of_label, result.maps, result.predicted_maps)
        return OwnScores(maps, columns, bird_rows(result))


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
