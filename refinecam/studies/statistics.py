"""How sure a number is: bootstrap intervals over images, paired differences, correlations."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, wilcoxon

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate with its bootstrap interval.

    Attributes:
        value: of the images that there are.
        low: lower end of the 95% interval.
        high: upper end.
        images: that it rests on.
    """

    value: float
    low: float
    high: float
    images: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Comparison(NamedTuple):
    """Two methods, or two scores, on the same images.

    Attributes:
        difference: mean of the first minus the second.
        wins: share of the images on which the first is higher; ties count half.
        p: of Wilcoxon's signed-rank test; 1 where all differences are 0.
    """

    difference: Interval
    wins: float
    p: float


def bootstrap(statistic: Callable[[np.ndarray], float], images: int, resamples: int = RESAMPLES) -> Interval:
    """Percentile bootstrap over images (Efron & Tibshirani, 1993).

    Args:
        statistic: from the images' numbers, with repetition, to the estimate; NaN where a resample has none.
        images: how many there are.
        resamples: their number; their seed is 0.
    """
    if not images:
        return Interval(np.nan, np.nan, np.nan, 0)
    draws = np.random.default_rng(0).integers(images, size=(resamples, images))
    values = np.array([statistic(draw) for draw in draws])
    values = values[np.isfinite(values)]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail]) if len(values) else (np.nan, np.nan)
    return Interval(float(statistic(np.arange(images))), float(low), float(high), images)


def mean_interval(values: np.ndarray) -> Interval:
    """Mean of one value an image, with its interval; what is not finite is left out."""
    there = values[np.isfinite(values)]
    return bootstrap(lambda draw: float(there[draw].mean()), len(there))


def compare(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Two values of each image; images without one of them are left out."""
    difference = first - second
    difference = difference[np.isfinite(difference)]
    wins = float(((difference > 0) + 0.5 * (difference == 0)).mean()) if len(difference) else np.nan
    p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
    return Comparison(mean_interval(difference), wins, p)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of what is finite in both; NaN where one is constant.

    >>> round(pearson(np.array([1.0, 2, 3, np.nan]), np.array([2.0, 4, 7, 1])), 3)
    0.993
    """
    there = np.isfinite(a) & np.isfinite(b)
    if not there.any():
        return float("nan")
    a, b = a[there] - a[there].mean(), b[there] - b[there].mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of the ranks, ties at their mean."""
    there = np.isfinite(a) & np.isfinite(b)
    return pearson(rankdata(a[there]), rankdata(b[there]))


CORRELATIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"pearson": pearson, "spearman": spearman}
