"""Summaries over runs and tasks, and comparisons, against SciPy, brute force and simulated studies."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from thorndike.ops import comparison, summary
from thorndike.ops.comparison import improvement, improvement_interval, more_runs, p_value
from thorndike.ops.summary import (
    bootstrap,
    efficiency,
    interval_of,
    iqm_of,
    mean_of,
    median_of,
    optimality_gap_of,
    profile_of,
    steps_to,
)


def scores(seed: int = 0, runs: int = 8, tasks: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(task, 1 + task, runs) for task in range(tasks)]


# --- estimates --------------------------------------------------------------------------------------------------------


def test_estimates_over_runs_and_tasks():
    given = scores()
    matrix = np.stack(given, 1)  # [R, M]
    assert iqm_of(given) == pytest.approx(scipy.stats.trim_mean(matrix, 0.25, axis=None))
    assert mean_of(given) == pytest.approx(matrix.mean())
    assert median_of(given) == pytest.approx(np.median(matrix.mean(0)))
    assert median_of(given[:1]) == pytest.approx(np.median(given[0]))
    assert optimality_gap_of(given) == pytest.approx(np.mean([max(1 - x, 0) for x in matrix.ravel()]))
    heights = np.linspace(-3, 6, 7)
    assert profile_of(given, heights) == pytest.approx([(matrix > h).mean() for h in heights])
    survival = scipy.stats.ecdf(given[0]).sf.evaluate(heights)
    assert profile_of(given[:1], heights) == pytest.approx(survival)


def test_every_task_counts_as_much_as_any_other():
    few, many = np.array([0.0, 1.0]), np.full(6, 10.0)
    repeated = np.concatenate([np.repeat(few, 3), many])
    assert iqm_of([few, many]) == pytest.approx(scipy.stats.trim_mean(repeated, 0.25))
    assert mean_of([few, many]) == pytest.approx(5.25)


def test_many_samples_at_once_are_each_as_one():
    drawn = bootstrap(scores(), samples=20)
    for estimate in (iqm_of, mean_of, median_of, optimality_gap_of, lambda x: profile_of(x, np.array([0.0, 1.0]))):
        together = estimate(drawn)
        assert np.allclose(together, [estimate([x[i] for x in drawn]) for i in range(20)])


def test_steps_to_a_threshold_and_efficiency():
    x, y = np.array([10, 20, 30]), np.array([[1.0, np.nan, 0.0], [5.0, 2.0, 0.0], [4.0, 7.0, 1.0]])
    assert steps_to(x, y, 5).tolist() == [20, 30, math.inf]
    assert steps_to(x, y, 1).tolist() == [10, 20, 30]
    curves = np.random.default_rng(0).normal(np.arange(4)[:, None], 1, (4, 6))
    middle, low, high = efficiency(curves, samples=200)
    assert middle == pytest.approx([summary.iqm(row) for row in curves])
    rng = np.random.default_rng(0).integers(0, 6, (200, 6))
    assert low == pytest.approx([np.percentile([summary.iqm(row[d]) for d in rng], 2.5) for row in curves])
    assert ((low <= middle) & (middle <= high)).all()


# --- intervals --------------------------------------------------------------------------------------------------------

STUDIES = 400


def true_iqm() -> float:
    """Of a log-normal distribution, by integration: twice the integral of its quantiles from 1/4 to 3/4."""
    return 2 * scipy.integrate.quad(lambda q: math.exp(scipy.stats.norm.ppf(q)), 0.25, 0.75)[0]


def coverage(runs: int = 10) -> float:
    truth, hits = true_iqm(), 0
    for i in range(STUDIES):
        study = [np.random.default_rng(i).lognormal(size=runs)]
        low, high = summary.interval_of(iqm_of, study, samples=300, seed=i)
        hits += low <= truth <= high
    return hits / STUDIES


def test_the_interval_covers_about_as_often_as_it_says():
    assert 0.88 <= coverage() <= 0.97


def test_the_interval_of_few_runs_does_not():
    assert coverage(3) < 0.85  # which is why fewer than `FEW` are pointed out


def test_intervals_agree_with_scipy():
    x = np.random.default_rng(0).gamma(2.0, 10.0, 20)
    expected = scipy.stats.bootstrap(
        (x,), np.median, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    low, high = interval_of(median_of, [x], samples=4000)
    assert abs(low - expected.low) < 0.1 * (expected.high - expected.low)
    assert abs(high - expected.high) < 0.1 * (expected.high - expected.low)


def stratified() -> bool:
    """Runs are drawn within tasks: tasks that differ much, whose runs do not, leave no doubt about the mean."""
    given = [np.full(5, 0.0), np.full(5, 100.0), np.full(5, 1000.0)]
    low, high = interval_of(mean_of, given)
    return bool(low == high == mean_of(given))


def test_runs_are_drawn_within_tasks(monkeypatch):
    assert stratified()

    def tasks_drawn(given, samples=100, seed=0):
        rng = np.random.default_rng(seed)
        which = rng.integers(0, len(given), (samples, len(given)))
        return [np.stack([given[w[i]] for w in which]) for i in range(len(given))]

    monkeypatch.setattr(summary, "bootstrap", tasks_drawn)
    assert not stratified()


# --- comparisons ------------------------------------------------------------------------------------------------------


def as_mann_whitney() -> bool:
    rng = np.random.default_rng(3)
    for _ in range(5):
        a, b = rng.integers(0, 6, 9).astype(float), rng.integers(1, 7, 9).astype(float)  # with ties
        expected = scipy.stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
        if not math.isclose(comparison.improvement([a], [b]), expected):
            return False
    return True


@pytest.mark.parametrize(
    "mutant",
    [
        lambda x, y: np.mean([(a > b).mean() for a, b in zip(x, y)]),  # seeds held against their namesakes only
        lambda x, y: np.mean([(a[:, None] > b).mean() for a, b in zip(x, y)]),  # ties lost
        lambda x, y: np.mean([(a[:, None] >= b).mean() for a, b in zip(x, y)]),  # ties won
    ],
)
def test_improvement_is_mann_whitneys_u(monkeypatch, mutant):
    assert as_mann_whitney()
    monkeypatch.setattr(comparison, "improvement", mutant)
    assert not as_mann_whitney()


def test_improvement_over_tasks_and_its_interval():
    x, y = [np.array([1.0, 2.0]), np.array([0.0])], [np.array([0.0, 1.5]), np.array([5.0])]
    assert improvement(x, y) == pytest.approx((3 / 4 + 0) / 2)
    apart = [np.arange(5.0) + 10], [np.arange(5.0)]
    assert improvement_interval(*apart) == (1.0, 1.0)
    low, high = improvement_interval(scores(0), scores(1))
    assert low < improvement(scores(0), scores(1)) < high


@pytest.mark.parametrize("sizes", [(3, 3), (4, 6), (5, 5)])
def test_p_value_is_mann_whitneys(sizes):
    rng = np.random.default_rng(sum(sizes))
    a, b = rng.normal(0, 1, sizes[0]), rng.normal(1, 1, sizes[1])
    assert p_value([a], [b]) == pytest.approx(scipy.stats.mannwhitneyu(a, b, method="exact").pvalue)


def test_p_value_with_ties_is_scipys_permutation_test():
    a, b = np.array([1.0, 2, 2, 3, 5]), np.array([2.0, 3, 3, 5, 6])
    expected = scipy.stats.permutation_test(
        (a, b), lambda x, y: scipy.stats.mannwhitneyu(x, y).statistic, n_resamples=np.inf, vectorized=False
    ).pvalue
    assert p_value([a], [b]) == pytest.approx(expected)


def test_p_value_over_tasks_by_brute_force():
    x, y = [np.array([3.0, 4.0]), np.array([7.0, 1.0])], [np.array([1.0, 2.5]), np.array([0.0, 2.0])]
    pools = [[*a, *b] for a, b in zip(x, y)]

    def wins(first, second):
        total = 0.0
        for pool, chosen in zip(pools, (first, second)):
            rest = [i for i in range(4) if i not in chosen]
            total += sum(pool[i] > pool[j] for i in chosen for j in rest)
        return total

    found = [wins(*deal) for deal in itertools.product(itertools.combinations(range(4), 2), repeat=2)]
    above, below = np.mean(np.array(found) >= wins((0, 1), (0, 1))), np.mean(np.array(found) <= wins((0, 1), (0, 1)))
    assert p_value(x, y) == pytest.approx(min(1, 2 * min(above, below)))


def test_drawn_relabellings_agree_with_all(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = [rng.normal(0, 1, 7)], [rng.normal(0.8, 1, 7)]
    exact = p_value(a, b)
    monkeypatch.setattr(comparison, "EXACT", 0)
    assert p_value(a, b) == pytest.approx(exact, abs=0.015)


def false_alarms(runs: int, decide) -> float:
    """How often two sides of the same distribution are told apart."""
    rngs = [np.random.default_rng(i) for i in range(300)]
    return float(np.mean([decide([rng.lognormal(size=runs)], [rng.lognormal(size=runs)]) for rng in rngs]))


def test_sides_that_are_the_same_are_rarely_told_apart():
    assert false_alarms(5, lambda a, b: p_value(a, b) < 0.05) <= 0.075

    def interval_without_zero(a, b):
        low, high = summary.ends(comparison.differences(a, b, samples=200))
        return low > 0 or high < 0

    assert false_alarms(3, interval_without_zero) > 0.1  # what would be said of three seeds by the interval alone
    assert false_alarms(3, lambda a, b: p_value(a, b) < 0.05) == 0


def power(n: int, shift: float) -> float:
    """How often runs of two normal distributions, `shift` standard deviations apart, are told apart."""
    rng = np.random.default_rng(n)
    one, other = rng.normal(shift, 1, (1000, n)), rng.normal(0, 1, (1000, n))
    return float((scipy.stats.mannwhitneyu(one, other, axis=1, method="asymptotic").pvalue < 0.05).mean())


@pytest.mark.parametrize("shift", [0.8, 1.2])
def test_so_many_runs_settle_it_about_as_often_as_is_said(shift):
    quantiles = scipy.stats.norm.ppf((np.arange(40) + 0.5) / 40)  # a study whose difference is just what it looks like
    more = comparison.more_runs([quantiles[::4] + shift], [quantiles[::4]])
    assert 0.72 <= power(10 + int(more), shift) <= 0.88
    assert power(10, shift) < 0.72


def test_where_nothing_can_be_said_of_more_runs():
    assert math.isnan(more_runs([np.array([1.0])], [np.array([2.0])]))
    same = [np.arange(5.0)]
    assert more_runs(same, same) == math.inf
    assert more_runs([np.full(6, 2.0)], [np.full(6, 1.0)]) == 0
    assert more_runs([np.full(3, 2.0)], [np.full(3, 1.0)]) == 3
    assert more_runs([np.full(3, 2.0)] * 2, [np.full(3, 1.0)] * 2) == 0  # two tasks tell twice as much
