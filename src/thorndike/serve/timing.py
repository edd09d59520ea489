"""How long calls take: percentiles of single calls, one after the other."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Latency:
    """Percentiles of the time of one call, in seconds, over `calls` of them."""

    calls: int
    p50: float
    p90: float
    p99: float
    longest: float

    def __str__(self) -> str:
        return "  ".join(f"{name} {spell(getattr(self, name))}" for name in ("p50", "p90", "p99", "longest"))


def latency(call: Callable[[Any], Any], inputs: Sequence[Any], calls: int = 1000, warm: int = 20) -> Latency:
    """Time `call` on each of `inputs` in turn, one call at a time; the first `warm` calls compile and do not count."""
    for i in range(warm):
        call(inputs[i % len(inputs)])
    taken = np.empty(calls)
    for i in range(calls):
        given = inputs[i % len(inputs)]
        start = time.perf_counter()
        call(given)
        taken[i] = time.perf_counter() - start
    p50, p90, p99 = np.percentile(taken, [50, 90, 99])
    return Latency(calls, float(p50), float(p90), float(p99), float(taken.max()))


def spell(seconds: float) -> str:
    """ "14 us", "2.3 ms", "1.20 s"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
