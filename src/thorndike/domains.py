"""What numbers a float field may hold: `discount: Fraction = 0.99` is checked where a run starts."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`; with `above`, `low` itself is not one of them."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a number, or every number of an array, lies inside."""
        x = np.asarray(value)
        return bool(((x > self.low) if self.above else (x >= self.low)).all() and (x <= self.high).all())

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"be {'above' if self.above else 'at least'} {self.low:g}"
        return f"lie in {'(' if self.above else '['}{self.low:g}, {self.high:g}]"


Positive = Annotated[float, Interval(0, above=True)]
NonNegative = Annotated[float, Interval(0)]
Fraction = Annotated[float, Interval(0, 1)]
Share = Annotated[float, Interval(0, 1, above=True)]  # a fraction that is not zero
Static = Annotated[float, "static"]  # a number that shapes depend on: part of the compilation key, not a leaf
