"""Intervals, paired comparisons and correlations, against scipy and the normal approximation."""

import numpy as np
import pytest
from scipy import stats

from refinecam.studies.statistics import bootstrap, compare, mean_interval, pearson, spearman


def test_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = mean_interval(values)
    error = 1.96 * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.02)
    assert found.high == pytest.approx(values.mean() + error, abs=0.02)


def test_interval_covers_the_truth_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        low, high = mean_interval(np.random.default_rng(seed).normal(0, 1, 40))[1:3]
        covered += low <= 0 <= high
    assert 180 <= covered <= 198


def test_what_is_not_finite_is_left_out():
    found = mean_interval(np.array([1.0, 3.0, np.nan, np.inf]))
    assert (found.value, found.images) == (2.0, 2)
    assert np.isnan(mean_interval(np.array([np.nan])).value)
    assert bootstrap(lambda draw: float("nan"), 3).images == 3


def test_comparison_is_image_by_image():
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 10, 50)
    found = compare(hard + 1 + rng.normal(0, 0.1, 50), hard)
    assert found.difference.low > 0.9
    assert found.wins == 1
    assert found.p < 1e-8
    same = compare(hard, hard)
    assert (same.difference.value, same.wins, same.p) == (0, 0.5, 1)
    assert compare(np.array([1.0, np.nan]), np.array([0.0, 5.0])).difference.images == 1


@pytest.mark.parametrize(("ours", "theirs"), [(pearson, stats.pearsonr), (spearman, stats.spearmanr)])
def test_correlations_are_scipys(ours, theirs):
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 9, (2, 60)).astype(float)
    assert ours(a, b) == pytest.approx(theirs(a, b).statistic)
    assert ours(np.append(a, np.nan), np.append(b, 1)) == pytest.approx(theirs(a, b).statistic)
    assert np.isnan(ours(np.ones(5), a[:5]))
    assert np.isnan(ours(np.full(5, np.nan), a[:5]))
