"""Exact bounds of a rate from counts (Clopper and Pearson 1934). Python alone."""

from __future__ import annotations

import math
from collections.abc import Callable


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a rate of which `k` of `n` were seen: it covers at least that often."""
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else _where(lambda p: 1 - at_most(k - 1, n, p) - tail)
    high = 1.0 if k == n else _where(lambda p: tail - at_most(k, n, p))
    return low, high


def upper_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """The exact one-sided bound: the rate is below it with that confidence."""
    return 1.0 if k == n else _where(lambda p: 1 - confidence - at_most(k, n, p))


def needed(rate: float, confidence: float = 0.95) -> int:
    """How many trials without a failure show, with that confidence, that failures are rarer than `rate`.

    The least n with (1 - rate)^n <= 1 - confidence; about 3 / rate at 95%, the rule of three.
    """
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate) - 1e-9)


def at_most(k: int, n: int, p: float) -> float:
    """The probability of at most `k` successes in `n` trials."""
    if p <= 0 or k >= n:
        return 1.0
    if p >= 1:
        return 0.0
    log = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, log)))


def _where(rising: Callable[[float], float]) -> float:
    """The zero in [0, 1] of a function that rises, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
