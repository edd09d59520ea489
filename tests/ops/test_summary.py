"""Interquartile mean and its bootstrap interval, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from thorndike.ops.summary import bootstrap_interval, iqm


@pytest.mark.parametrize("n", range(1, 14))
def test_iqm_is_the_mean_of_the_middle_half(n):
    x = np.random.default_rng(n).normal(size=n) * 10
    quarters = np.repeat(x, 4)  # each value as four quarters: then the middle half has whole ends
    assert iqm(x) == pytest.approx(scipy.stats.trim_mean(quarters, 0.25))
    if n % 4 == 0:
        assert iqm(x) == pytest.approx(scipy.stats.trim_mean(x, 0.25))


def test_iqm_ignores_order_shape_and_outliers():
    x = np.arange(16.0)
    assert iqm(np.random.default_rng(0).permutation(x).reshape(4, 4)) == pytest.approx(7.5)
    x[-4:], x[:4] = 1e9, -1e9
    assert iqm(x) == pytest.approx(7.5)
    assert iqm([3]) == 3


def test_bootstrap_covers_about_as_often_as_it_says():
    """How often the interval holds the true IQM, 5, of twelve seeds that differ more than their episodes do."""
    hits = 0
    for i in range(80):
        rng = np.random.default_rng(i)
        returns = 5 + rng.normal(size=(12, 1)) + 0.1 * rng.normal(size=(12, 4))
        low, high = bootstrap_interval(returns, samples=100, seed=i)
        hits += low <= 5 <= high
    assert 0.85 <= hits / 80 <= 0.99


def test_bootstrap_agrees_with_scipy():
    returns = np.random.default_rng(0).gamma(2.0, 10.0, (20, 1))
    expected = scipy.stats.bootstrap(
        (returns[:, 0],), iqm, n_resamples=2000, vectorized=False, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    got = bootstrap_interval(returns)
    width = expected.high - expected.low
    assert abs(got[0] - expected.low) < 0.1 * width
    assert abs(got[1] - expected.high) < 0.1 * width
    assert got == bootstrap_interval(returns)
    assert got != bootstrap_interval(returns, seed=1)


def test_bootstrap_resamples_seeds_and_episodes_of_a_single_one():
    same_seeds = np.tile(np.arange(10.0), (6, 1))  # seeds that agree: no doubt about the mean over seeds
    low, high = bootstrap_interval(same_seeds, samples=100)
    assert low == high == pytest.approx(iqm(np.arange(10.0)), abs=0.1)
    low, high = bootstrap_interval(same_seeds[:1], samples=100)
    assert low < 4.5 < high
    assert bootstrap_interval(np.array([[3.0]]), samples=10) == (3.0, 3.0)
