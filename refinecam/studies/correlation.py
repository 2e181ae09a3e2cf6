"""Figure 4: which label-free score agrees with the ground truth."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from refinecam.studies.base import Claim, Findings, Needs, Study
from refinecam.studies.figures import scatters
from refinecam.studies.methods import shallow, without_layers
from refinecam.studies.statistics import CORRELATIONS, Interval, bootstrap
from refinecam.studies.tables import FUNNYBIRDS, LABEL_FREE, images_by_methods, oriented, parts, scored

TRUTHS = {"shapes": "cosine_similarity", "birds": FUNNYBIRDS}
FEWEST = 5
"""Methods without which a correlation over methods says little."""
CANDIDATE = "arcc"
RESAMPLES = 500
Correlation = Callable[[np.ndarray, np.ndarray], float]


def needs(presets: Sequence[str]) -> Needs:
    """The paper's ten methods, CAMs at the shallowest stage."""
    return dict.fromkeys(TRUTHS, ([*shallow(), *without_layers(presets)], ()))


def find(rows: pd.DataFrame) -> Findings:
    """Correlation of every label-free score with the ground truth: pooled, within images, between method means."""
    table, claims, figures = [], [], {}
    for (data, network), own in parts(rows, "data", "network"):
        titles = list(own["title"].unique())
        there = scored(own, (TRUTHS[data],)) and scored(own, LABEL_FREE)
        if len(titles) < FEWEST or not there:
            continue
        truth = images_by_methods(own, TRUTHS[data], titles)
        scores = {score: oriented(images_by_methods(own, score, titles), score) for score in there}
        for kind, correlate in CORRELATIONS.items():
            found = {score: _all_ways(values, truth, correlate) for score, values in scores.items()}
            for score, (pooled, within, between) in found.items():
                table.append(
                    {
                        "data": data,
                        "network": network,
                        "truth": TRUTHS[data],
                        "correlation": kind,
                        "score": score,
                        "pooled": pooled.value,
                        "low": pooled.low,
                        "high": pooled.high,
                        "within images": np.nanmean(within),
                        "std": np.nanstd(within),
                        "between methods": between,
                        "images": pooled.images,
                        "methods": len(titles),
                    }
                )
            if CANDIDATE not in scores or len(scores) == 1:
                continue
            rival, estimate = _lead(scores, truth, correlate)
            claims.append(
                Claim(
                    f"{CANDIDATE} agrees best with the ground truth",
                    f"pooled {kind} of {CANDIDATE} minus that of {rival}, the best other",
                    f"{data}, {network}",
                    estimate,
                )
            )
        panels = {score: (values, truth) for score, values in scores.items()}
        figures[f"correlation-{data}-{network}"] = scatters(panels, titles, TRUTHS[data], f"{data}, {network}")
    return Findings({"correlation": pd.DataFrame(table)}, figures, claims)


def _all_ways(values: np.ndarray, truth: np.ndarray, correlate: Correlation) -> tuple[Interval, np.ndarray, float]:
    """Over all maps, with its interval; over the methods within each image; between the methods' means."""
    pooled = bootstrap(
        lambda draw: correlate(values[draw].ravel(), truth[draw].ravel()), len(values), resamples=RESAMPLES
    )
    within = np.array([correlate(a, b) for a, b in zip(values, truth, strict=True)])
    both = np.where(np.isfinite(values) & np.isfinite(truth), 1.0, np.nan)
    return pooled, within, correlate(np.nanmean(values * both, axis=0), np.nanmean(truth * both, axis=0))


def _lead(scores: dict[str, np.ndarray], truth: np.ndarray, correlate: Correlation) -> tuple[str, Interval]:
    """By how much the candidate's pooled correlation is above the best other's, on the same resamples."""
    pooled = {score: correlate(values.ravel(), truth.ravel()) for score, values in scores.items()}
    rival = max(
        (score for score in scores if score != CANDIDATE), key=lambda score: np.nan_to_num(pooled[score], nan=-2)
    )

    def lead(draw: np.ndarray) -> float:
        mine, other = (correlate(scores[score][draw].ravel(), truth[draw].ravel()) for score in (CANDIDATE, rival))
        return mine - other

    return rival, bootstrap(lead, len(truth), resamples=RESAMPLES)


STUDY = Study(
    "correlation",
    "Which label-free score agrees with the ground truth, on shapes and on birds? (Figure 4)",
    needs,
    find,
)
