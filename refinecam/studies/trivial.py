"""Figure 1: which label-free scores are fooled by maps that explain nothing."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from refinecam.studies.base import Claim, Findings, Needs, Study
from refinecam.studies.figures import dots
from refinecam.studies.methods import CAMS, TRIVIAL, shallow
from refinecam.studies.statistics import mean_interval
from refinecam.studies.tables import LABEL_FREE, described, images_by_methods, oriented, parts, scored

FOOLED = ("average_drop", "adcc")
NOT_FOOLED = ("road", "arcc")


def needs(presets: Sequence[str]) -> Needs:
    """CAMs at the shallowest and at the deepest stage, and the trivial maps."""
    methods = [*(cam for cam in CAMS if cam != "ScoreCAM"), *shallow(), *TRIVIAL]
    return dict.fromkeys(("shapes", "imagenet"), (methods, ()))


def find(rows: pd.DataFrame) -> Findings:
    """Every label-free score of every map, and whether a trivial one beats the mean of the real ones."""
    table, claims = [], []
    for (data, network), own in parts(rows, "data", "network"):
        cams = own[own["method"].isin(CAMS) & own["stage"].isin(("0", "-1"))]
        ends = {
            f"CAMs at the {end} stage": list(cams.loc[cams["stage"] == stage, "title"].unique())
            for end, stage in (("shallowest", "0"), ("deepest", "-1"))
        }
        real = [title for titles in ends.values() for title in titles]
        there = set(own["title"])
        trivial = [name for name in TRIVIAL if name in there]
        for score in scored(own, LABEL_FREE):
            values = images_by_methods(own, score, [*real, *trivial])
            for title, column in zip([*real, *trivial], values.T, strict=True):
                table.append(described(column, data=data, network=network, score=score, method=title))
            for text, titles in ends.items() if score in FOOLED + NOT_FOOLED and trivial else ():
                chosen = oriented(images_by_methods(own, score, [*titles, *trivial]), score)
                if titles:
                    claims.append(_claim(chosen, score, text, len(titles), trivial, f"{data}, {network}"))
    whole = pd.DataFrame(table)
    figures = {
        f"trivial-{data}-{network}": dots(
            own, TRIVIAL, f"{data}, {network}: mean over images, 95% interval; trivial maps in red"
        )
        for (data, network), own in parts(whole, "data", "network")
    }
    return Findings({"trivial": whole}, figures, claims)


def _claim(values: np.ndarray, score: str, text: str, real: int, trivial: Sequence[str], where: str) -> Claim:
    """The best trivial map against the mean over the real ones, image by image; on the side that the paper says."""
    best = int(np.nanargmax(np.nanmean(values[:, real:], axis=0)))
    lead = values[:, real + best] - np.nanmean(values[:, :real], axis=1)
    fooled = score in FOOLED
    effect = f"{trivial[best]} minus the mean over {text}" if fooled else f"mean over {text} minus {trivial[best]}"
    said = "is fooled" if fooled else "is not fooled"
    return Claim(f"{score} {said} by trivial maps", effect, where, mean_interval(lead if fooled else -lead))


STUDY = Study("trivial", "Which label-free scores are fooled by maps that explain nothing? (Figure 1)", needs, find)
