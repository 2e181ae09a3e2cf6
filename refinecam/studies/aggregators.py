"""Table 2: how the stages' maps are joined, beside the paper's published values."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from refinecam.studies.base import Claim, Findings, Needs, Study
from refinecam.studies.figures import bars
from refinecam.studies.methods import AGGREGATORS, CAMS, refined
from refinecam.studies.statistics import compare
from refinecam.studies.tables import EMPTY, described, images_by_methods, parts

PUBLISHED = {
    "GradCAM++": (0.57, 0.57, 0.63),
    "GuidedGradCAM": (0.07, 0.15, 0.12),
    "LayerCAM": (0.68, 0.70, 0.74),
    "ScoreCAM": (0.65, 0.64, 0.70),
    "ShapleyCAM": (0.25, 0.31, 0.32),
}
"""ARCC in the paper's Table 2, in the order of :data:`AGGREGATORS`."""


def needs(presets: Sequence[str]) -> Needs:
    """Each CAM refined in three ways."""
    methods = [method for aggregator in AGGREGATORS for method in refined(aggregator=aggregator)]
    return dict.fromkeys(("shapes", "imagenet"), (methods, ()))


def find(rows: pd.DataFrame) -> Findings:
    """ARCC of each, and whether the product is the best."""
    table, claims = [], []
    for (data, network), own in parts(rows, "data", "network"):
        for cam in CAMS:
            titles = [f"RefineCAM({cam}), stage 0, {aggregator}" for aggregator in AGGREGATORS]
            values = images_by_methods(own, "arcc", titles, EMPTY["arcc"])
            if not np.isfinite(values).any(axis=0).all():
                continue
            for aggregator, column, published in zip(AGGREGATORS, values.T, PUBLISHED[cam], strict=True):
                row = described(column, data=data, network=network, method=cam, aggregator=aggregator)
                table.append({**row, "published": published})
            best_other = int(np.nanargmax(np.nanmean(values[:, :2], axis=0)))
            claims.append(
                Claim(
                    "the product joins the stages best",
                    f"{cam}: ARCC of the product minus {AGGREGATORS[best_other]}",
                    f"{data}, {network}",
                    compare(values[:, 2], values[:, best_other]).difference,
                )
            )
    whole = pd.DataFrame(table)
    figures = {
        f"aggregators-{data}-{network}": bars(own, "method", "aggregator", f"{data}, {network}: ARCC, 95% interval")
        for (data, network), own in parts(whole, "data", "network")
    }
    return Findings({"aggregators": whole}, figures, claims)


STUDY = Study("aggregators", "How should the stages' maps be joined? (Table 2)", needs, find)
