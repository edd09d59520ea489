"""Exact bounds of rates, against SciPy."""

from __future__ import annotations

import pytest
import scipy.stats

from thorndike.ops.binomial import clopper_pearson, needed, upper_bound


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 100), (3, 100), (50, 100), (100, 100), (7, 5000)])
def test_bounds_are_scipys(k, n):
    test = scipy.stats.binomtest(k, n)
    exact = test.proportion_ci(0.95, "exact")
    assert clopper_pearson(k, n) == pytest.approx((exact.low, exact.high), abs=1e-9)
    wider = test.proportion_ci(0.9, "exact")  # whose upper end is the one-sided bound at 95%
    assert upper_bound(k, n) == pytest.approx(wider.high, abs=1e-9)


def test_the_normal_approximation_would_not_do():
    assert clopper_pearson(0, 100)[1] == pytest.approx(0.0362, abs=1e-4)  # where the approximation says 0


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.003])
def test_so_many_episodes_without_a_failure_show_the_rate(rate):
    n = needed(rate)
    assert upper_bound(0, n) <= rate < upper_bound(0, n - 1)
    assert n == pytest.approx(3 / rate, rel=0.06)
