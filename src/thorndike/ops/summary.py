"""Summaries of scores over runs and tasks, with bootstrap intervals (Agarwal et al. 2021). NumPy only.

Scores are a list with an array for each task: the scores of that task's runs, [R]. A run's score is one number, such as
its mean return over evaluation episodes: runs are what varies, not episodes. Every estimate also takes arrays
[..., R], many samples at once, and answers with [...]. Each task counts as much as any other, however many runs it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

FEW = 5  # runs, below which a bootstrap interval is too narrow to rely on
SAMPLES = 2000  # of the bootstrap

Scores = Sequence[np.ndarray]
Estimate = Callable[[Scores], np.ndarray]


def iqm(x: Any) -> float:
    """Interquartile mean: the mean of the middle half (Agarwal et al. 2021), with fractional ends."""
    return float(iqm_of([np.ravel(np.asarray(x, float))]))


def iqm_of(scores: Scores) -> np.ndarray:
    """Interquartile mean over all runs and tasks."""
    x, weight = _joined(scores)
    order = np.argsort(x, -1)
    weight = weight[order]
    above = np.cumsum(weight, -1)
    inside = np.clip(np.minimum(above, 0.75) - np.maximum(above - weight, 0.25), 0, None)
    return (np.take_along_axis(x, order, -1) * inside).sum(-1) / inside.sum(-1)


def mean_of(scores: Scores) -> np.ndarray:
    """Mean over tasks of the mean over runs."""
    return np.mean([x.mean(-1) for x in scores], 0)


def median_of(scores: Scores) -> np.ndarray:
    """Median over tasks of the mean over runs; of one task, the median over its runs."""
    return np.median([x.mean(-1) for x in scores], 0) if len(scores) > 1 else np.median(scores[0], -1)


def optimality_gap_of(scores: Scores, target: float = 1.0) -> np.ndarray:
    """By how much scores fall short of `target` on average; those above it count as reaching it."""
    return mean_of([np.maximum(target - x, 0) for x in scores])


def profile_of(scores: Scores, heights: np.ndarray) -> np.ndarray:
    """Performance profile: the share of runs whose score is above each of `heights` [H]; answers with [..., H]."""
    return np.stack([mean_of([(x > height).astype(float) for x in scores]) for height in heights], -1)


def bootstrap(scores: Scores, samples: int = SAMPLES, seed: int = 0) -> list[np.ndarray]:
    """Stratified bootstrap: runs are drawn with replacement within each task; arrays [samples, R]. Tasks stay."""
    rng = np.random.default_rng(seed)
    return [x[rng.integers(0, len(x), (samples, len(x)))] for x in scores]


def interval_of(
    estimate: Estimate, scores: Scores, samples: int = SAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95% percentile interval of an estimate. With few runs it is too narrow: see `FEW`."""
    return ends(estimate(bootstrap(scores, samples, seed)))


def ends(estimates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5% and 97.5% percentiles of estimates [B, ...]."""
    low, high = np.percentile(estimates, [2.5, 97.5], axis=0)
    return low, high


def steps_to(x: np.ndarray, y: np.ndarray, height: float) -> np.ndarray:
    """Time to threshold: at which `x` [N] each run of `y` [N, R] first reaches `height`, [R]; infinite where never."""
    reached = np.nan_to_num(y, nan=-np.inf) >= height
    return np.where(reached.any(0), np.asarray(x, float)[reached.argmax(0)], np.inf)


def efficiency(y: np.ndarray, samples: int = SAMPLES, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample-efficiency curve: IQM over the runs of `y` [N, R], and the ends of its 95% interval, each [N].

    The same runs are drawn for all points, because a run is one curve.
    """
    draws = np.random.default_rng(seed).integers(0, y.shape[1], (samples, y.shape[1]))
    found = [ends(iqm_of([row[draws]])) for row in y]
    return iqm_of([y]), np.array([low for low, _ in found]), np.array([high for _, high in found])


def bootstrap_interval(returns: np.ndarray, samples: int = SAMPLES, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of the IQM of `returns` [R, N]: seeds are resampled, or episodes where R is 1."""
    rng = np.random.default_rng(seed)
    units = returns if returns.shape[0] > 1 else returns.T  # [units, values each]
    draws = rng.integers(0, units.shape[0], (samples, units.shape[0]))
    low, high = ends(np.array([iqm(units[draw]) for draw in draws]))
    return float(low), float(high)


def _joined(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """All scores [..., n], and the weight of each [n]; weights sum to 1."""
    weights = [np.full(x.shape[-1], 1 / (len(scores) * x.shape[-1])) for x in scores]
    return np.concatenate([np.asarray(x, float) for x in scores], -1), np.concatenate(weights)
