"""Whether one algorithm scores higher than another, how surely, and how many runs would tell. NumPy only.

Scores are those of `thorndike.ops.summary`: a list with an array [R] for each task.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np

from thorndike.ops.summary import SAMPLES, Scores, bootstrap, ends, iqm_of

EXACT = 20_000  # relabellings that are all looked at; of more, `DRAWN` are drawn
DRAWN = 9_999
POWER = 1.96 + 0.84  # standard errors that a difference needs to be seen at 5% with a chance of 80%


def improvement(x: Scores, y: Scores) -> np.ndarray:
    """Probability of improvement: that a run of `x` scores above one of `y` on the same task; a tie counts half.

    Each run of `x` is held against each of `y`: U / (n m) of the Mann-Whitney test, averaged over tasks.
    """
    each = []
    for a, b in zip(x, y):
        above = (a[..., :, None] > b[..., None, :]) + 0.5 * (a[..., :, None] == b[..., None, :])
        each.append(above.mean((-1, -2)))
    return np.mean(each, 0)


def improvement_interval(x: Scores, y: Scores, samples: int = SAMPLES, seed: int = 0) -> tuple[float, float]:
    """95% bootstrap interval of the probability of improvement: runs of both are drawn, within tasks."""
    low, high = ends(improvement(bootstrap(x, samples, seed), bootstrap(y, samples, seed + 1)))
    return float(low), float(high)


def differences(x: Scores, y: Scores, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """Bootstrap samples of IQM(x) - IQM(y), [samples]."""
    return iqm_of(bootstrap(x, samples, seed)) - iqm_of(bootstrap(y, samples, seed + 1))


def p_value(x: Scores, y: Scores, seed: int = 0) -> float:
    """Mann-Whitney's test as a permutation test, two-sided: how often runs dealt at random differ as much in ranks.

    Runs are dealt anew within each task, so ties need no correction. The level holds for any number of runs, which that
    of a bootstrap interval does not: of three against three no difference can be seen at 5%. All deals are looked at
    where there are few.
    """
    pooled, sizes = [np.concatenate(pair) for pair in zip(x, y)], [len(a) for a in x]
    deals = math.prod(math.comb(len(task), n) for task, n in zip(pooled, sizes))
    orders = _all(pooled, sizes) if deals <= EXACT else _drawn(pooled, DRAWN, seed)
    dealt = [task[order] for task, order in zip(pooled, orders)]
    found = improvement([d[:, :n] for d, n in zip(dealt, sizes)], [d[:, n:] for d, n in zip(dealt, sizes)])
    observed = float(improvement(x, y))
    more = 0 if deals <= EXACT else 1  # the observed deal is one of those drawn: p is never 0 (Phipson and Smyth 2010)
    above, below = (found >= observed - 1e-9).sum() + more, (found <= observed + 1e-9).sum() + more
    return float(min(1.0, 2 * min(above, below) / (len(found) + more)))


def more_runs(x: Scores, y: Scores) -> float:
    """About how many more runs of each task and side would show the difference at 5% with a chance of 80%.

    Noether (1987): of M tasks each side needs n = 2.8^2 / (6 M (P - 1/2)^2) runs of each, where P is the probability of
    improvement, taken to be as far from 1/2 as it looks. Infinite where it is 1/2, NaN where a side has one run.
    """
    n = min(len(a) for a in (*x, *y))
    if n < 2:
        return math.nan
    effect = float(improvement(x, y)) - 0.5
    return math.inf if effect == 0 else max(0.0, math.ceil(POWER**2 / (6 * len(x) * effect**2)) - n)


def _all(pooled: list[np.ndarray], sizes: list[int]) -> list[np.ndarray]:
    """Every deal: of each task the orders [deals, runs] in which its first `size` runs are one side's."""
    each = [_orders(len(task), size) for task, size in zip(pooled, sizes)]
    chosen = np.meshgrid(*(np.arange(len(orders)) for orders in each), indexing="ij")
    return [orders[index.ravel()] for orders, index in zip(each, chosen)]


@cache
def _orders(runs: int, size: int) -> np.ndarray:
    """Every choice of `size` of so many runs, followed by the others, [choices, runs]."""
    chosen = itertools.combinations(range(runs), size)
    return np.array([[*first, *sorted(set(range(runs)) - set(first))] for first in chosen])


def _drawn(pooled: list[np.ndarray], deals: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.argsort(rng.random((deals, len(task))), -1) for task in pooled]
