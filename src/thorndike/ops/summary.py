"""Summaries of returns over episodes and seeds, with bootstrap intervals. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np


def iqm(x: Any) -> float:
    """Interquartile mean: the mean of the middle half (Agarwal et al. 2021), with fractional ends."""
    x = np.sort(np.ravel(np.asarray(x, float)))
    n = x.size
    low, high = n / 4, 3 * n / 4
    edges = np.arange(n)
    weight = np.clip(np.minimum(edges + 1, high) - np.maximum(edges, low), 0, 1)
    return float((x * weight).sum() / weight.sum())


def bootstrap_interval(returns: np.ndarray, samples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of the IQM of `returns` [R, N]: seeds are resampled, or episodes where R is 1."""
    rng = np.random.default_rng(seed)
    units = returns if returns.shape[0] > 1 else returns.T  # [units, values each]
    draws = rng.integers(0, units.shape[0], (samples, units.shape[0]))
    estimates = [iqm(units[draw]) for draw in draws]
    return float(np.percentile(estimates, 2.5)), float(np.percentile(estimates, 97.5))
