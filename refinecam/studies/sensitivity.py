"""How ARCC moves with the choices in it, and which conclusions survive all of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from refinecam.studies.base import Claim, Findings, Needs, Study
from refinecam.studies.figures import bars
from refinecam.studies.methods import TRIVIAL, refined
from refinecam.studies.statistics import Interval, mean_interval
from refinecam.studies.tables import EMPTY, described, images_by_methods, parts, scored

CAMS = ("GradCAM++", "LayerCAM")
DEFAULT = "arcc"
VARIANTS = (
    "arcc(percentiles=(10, 30, 50, 70, 90))",
    "arcc(percentiles=(50,))",
    "arcc(noise=0.0)",
    "arcc(noise=0.1)",
    "arcc(ranking='percentile')",
    "arcc(masking='before')",
    "arcc(recomputed='first')",
)
TARGETS: dict[str, dict[str, Any]] = {
    "label-of-all": {"model.only_correct": False},
    "predicted-of-all": {"model.only_correct": False, "model.target": "predicted"},
}
"""Misclassified images as well, explained as their label or as what they are classified as."""


def needs(presets: Sequence[str]) -> Needs:
    """A few CAMs and trivial maps, scored in every way."""
    methods = [*CAMS, *(f"{cam}(stage=0)" for cam in CAMS), *refined(CAMS), "InputXGradient", *TRIVIAL]
    return dict.fromkeys(("shapes", "imagenet"), (methods, VARIANTS))


def find(rows: pd.DataFrame) -> Findings:
    """Means and rankings of the methods under each variant, and two conclusions under each."""
    table, survival, claims = [], [], []
    for (data, network), of_all in parts(rows, "data", "network"):
        own = of_all[of_all["variant"] == ""]
        known = {v: (own, v) for v in scored(own, (DEFAULT, *VARIANTS))}
        known |= {f"{DEFAULT}, {v}": (part, DEFAULT) for v in TARGETS if len(part := of_all[of_all["variant"] == v])}
        if len(own) == 0 or len(known) == 1:
            continue
        titles = list(own["title"].unique())
        needed = {*TRIVIAL, *(f"{cam}, stage {stage}" for cam in CAMS for stage in (0, -1))}
        needed |= {f"RefineCAM({cam}), stage 0, product" for cam in CAMS}
        default = np.nanmean(images_by_methods(own, DEFAULT, titles, EMPTY[DEFAULT]), axis=0)
        for variant, (part, score) in known.items():
            values = images_by_methods(part, score, titles, EMPTY[DEFAULT])
            rank = kendalltau(default, np.nanmean(values, axis=0), nan_policy="omit").statistic
            for title, column in zip(titles, values.T, strict=True):
                row = described(column, data=data, network=network, variant=variant, method=title)
                table.append({**row, "kendall with default": rank})
            for text, effect in (_conclusions(values, titles) if needed <= {*titles} else {}).items():
                named = {"data": data, "network": network, "conclusion": text, "variant": variant}
                survival.append({**named, **effect._asdict()})
        here = pd.DataFrame([row for row in survival if (row["data"], row["network"]) == (data, network)])
        for text, each in parts(here, "conclusion"):
            least = each.loc[each["low"].idxmin()]
            claims.append(
                Claim(
                    f"{text[0]}, whatever the choices in ARCC",
                    f"the least of {len(each)} variants, {least['variant']}",
                    f"{data}, {network}",
                    Interval(*(least[name] for name in Interval._fields)),
                )
            )
    whole = pd.DataFrame(table)
    figures = {
        f"sensitivity-{data}-{network}": bars(own, "method", "variant", f"{data}, {network}: ARCC, 95% interval")
        for (data, network), own in parts(whole, "data", "network")
    }
    return Findings({"sensitivity": whole, "sensitivity-conclusions": pd.DataFrame(survival)}, figures, claims)


def _conclusions(values: np.ndarray, titles: Sequence[str]) -> dict[str, Interval]:
    column = dict(zip(titles, values.T, strict=True))
    refinements = [column[f"RefineCAM({cam}), stage 0, product"] - column[f"{cam}, stage 0"] for cam in CAMS]
    real = np.nanmean([column[f"{cam}, stage -1"] for cam in CAMS], axis=0)
    trivial = max((column[name] for name in TRIVIAL), key=lambda c: np.nan_to_num(np.nanmean(c), nan=-1))
    return {
        "refining beats the shallowest stage": mean_interval(np.nanmean(refinements, axis=0)),
        "real maps beat trivial ones": mean_interval(real - trivial),
    }


STUDY = Study("sensitivity", "Which conclusions survive other choices in ARCC?", needs, find, TARGETS)
