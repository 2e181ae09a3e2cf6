"""Figure 5: pictures with their maps, a row for each image, a column for each method."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from refinecam.evaluation.report import maps_figure
from refinecam.evaluation.store import Results
from refinecam.studies.base import Findings, Needs, Study
from refinecam.studies.methods import CAMS, refined, shallow

METHODS = [cam for cam in CAMS if cam not in ("ScoreCAM", "GuidedGradCAM")]


def needs(presets: Sequence[str]) -> Needs:
    """Three CAMs at both ends and refined, and a method without layers."""
    methods = [*shallow(METHODS), *METHODS, *refined(METHODS), "IntegratedGradients"]
    return dict.fromkeys(("shapes", "birds", "imagenet"), (methods, ()))


def find(rows: pd.DataFrame) -> Findings:
    """The figures of the images whose maps were kept."""
    figures = {}
    for (data, network, folder), own in rows.groupby(["data", "network", "folder"], sort=False):
        figure = maps_figure(Results(Path(folder)), set(own["title"]))
        if figure is not None:
            figures[f"qualitative-{data}-{network}"] = figure
    return Findings({}, figures, [])


STUDY = Study("qualitative", "What do the maps look like? (Figure 5)", needs, find)
