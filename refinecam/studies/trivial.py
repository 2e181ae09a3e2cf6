"""Figure 1: which label-free scores are fooled by maps that explain nothing."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from refinecam.studies.base import Claim, Findings, Needs, Study
from refinecam.studies.figures import dots
from refinecam.studies.methods import CAMS, TRIVIAL, shallow
from refinecam.studies.statistics import mean_interval
from refinecam.studies.tables import LABEL_FREE, groups, images_by_methods, oriented

FOOLED = ("average_drop", "adcc")
NOT_FOOLED = ("road", "arcc")


def needs(presets: Sequence[str]) -> Needs:
    """CAMs at the shallowest and at the deepest stage, and the trivial maps."""
    methods = [*(cam for cam in CAMS if cam != "ScoreCAM"), *shallow(), *TRIVIAL]
    return dict.fromkeys(("shapes", "imagenet"), (methods, ()))


def find(rows: pd.DataFrame) -> Findings:
    """Every label-free score of every map, and whether a trivial one beats the mean of the real ones."""
    real = list(rows.loc[rows["method"].isin(CAMS) & rows["stage"].isin(("0", "-1")), "title"].unique())
    table, claims = [], []
    for data, network, own in groups(rows):
        for score in LABEL_FREE:
            values = images_by_methods(own, score, [*real, *TRIVIAL])
            for title, column in zip([*real, *TRIVIAL], values.T, strict=True):
                mean = mean_interval(column)
                spread = np.nanstd(column) if mean.images else np.nan
                table.append(
                    {
                        "data": data,
                        "network": network,
                        "score": score,
                        "method": title,
                        "mean": mean.value,
                        "std": spread,
                        "low": mean.low,
                        "high": mean.high,
                        "images": mean.images,
                    }
                )
            if score in FOOLED + NOT_FOOLED:
                claims.append(_claim(oriented(values, score), score, len(real), f"{data}, {network}"))
    whole = pd.DataFrame(table)
    figures = {
        f"trivial-{data}-{network}": dots(
            own, TRIVIAL, f"{data}, {network}: mean over images, 95% interval; trivial maps in red"
        )
        for (data, network), own in whole.groupby(["data", "network"], sort=False)
    }
    return Findings({"trivial": whole}, figures, claims)


def _claim(values: np.ndarray, score: str, real: int, where: str) -> Claim:
    """The best trivial map against the mean of the real ones, image by image; on the side that the paper says."""
    trivial = values[:, real:]
    best = int(np.nanargmax(np.nanmean(trivial, axis=0)))
    lead = trivial[:, best] - np.nanmean(values[:, :real], axis=1)
    if score in FOOLED:
        return Claim(
            f"{score} is fooled by trivial maps", f"{TRIVIAL[best]} minus the mean CAM", where, mean_interval(lead)
        )
    return Claim(
        f"{score} is not fooled by trivial maps", f"mean CAM minus {TRIVIAL[best]}", where, mean_interval(-lead)
    )


STUDY = Study("trivial", "Which label-free scores are fooled by maps that explain nothing? (Figure 1)", needs, find)
