"""What a hyperparameter may be while it is tuned, and settings drawn from that."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from thorndike.errors import ConfigError, require


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, all equally likely; of a field that is a whole number, whole ones."""

    low: float
    high: float

    def at(self, u: np.ndarray) -> list[Any]:
        """The numbers below which the shares `u` of the range lie, u in [0, 1)."""
        return [rounded(x) for x in self.low + (self.high - self.low) * np.asarray(u)]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these numbers."""
        return is_number(value) and self.low <= value <= self.high

    def check(self, name: str) -> None:
        """Raise `ConfigError` unless both ends are numbers, the lower first."""
        ends = all(is_number(end) and math.isfinite(end) for end in (self.low, self.high))
        require(ends, f"the range of {name} needs two finite numbers, got {self.low!r} and {self.high!r}")
        require(
            self.low < self.high,
            f"the range of {name} is empty: {self.low:g} is not below {self.high:g}; give the lower end first, or set "
            f"{name} itself where it has one value",
        )


@dataclasses.dataclass(frozen=True)
class LogRange(Range):
    """The numbers from `low` to `high`, above 0, whose logarithms are all equally likely: as many below 1e-3 as above
    where the ends are 1e-4 and 1e-2."""

    def at(self, u: np.ndarray) -> list[Any]:
        """The numbers below which the shares `u` of the range lie, u in [0, 1)."""
        return [rounded(x) for x in self.low * (self.high / self.low) ** np.asarray(u)]

    def check(self, name: str) -> None:
        """Raise `ConfigError` unless both ends are numbers above 0, the lower first."""
        super().check(name)
        require(self.low > 0, f"the range of {name} begins at {self.low:g}, which has no logarithm: use td.Range")


@dataclasses.dataclass(frozen=True, init=False)
class Choices:
    """Some values, all equally likely: `td.Choices(32, 64)`, `td.Choices((64, 64), (256, 256))`."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any):
        object.__setattr__(self, "values", values)

    def at(self, u: np.ndarray) -> list[Any]:
        """The values below which the shares `u` of them lie, u in [0, 1)."""
        return [self.values[int(x * len(self.values))] for x in np.asarray(u)]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these."""
        return value in self.values

    def check(self, name: str) -> None:
        """Raise `ConfigError` unless there are two values or more."""
        require(len(self.values) > 1, f"the choices of {name} need at least two values, got {list(self.values)}")


Over = Mapping[str, Range | Choices]


def is_number(value: Any) -> bool:
    """Whether a value is a real number, Python's or NumPy's."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def rounded(x: float) -> float:
    """A number with float32's digits: what programs compute with, and files keep."""
    return float(str(np.float32(x)))


def check_over(over: Any) -> None:
    """Raise `ConfigError` unless these are ranges and choices by the names of fields."""
    say = 'over={"learning_rate": td.LogRange(1e-4, 1e-2), "clip": td.Range(0.1, 0.3), "num_envs": td.Choices(4, 8)}'
    require(isinstance(over, Mapping) and len(over) > 0, f"say what to tune, and over what: {say}")
    for name, values in over.items():
        if not isinstance(values, (Range, Choices)):
            raise ConfigError(f"{name} is to be tuned over {values!r}, which is no range and no choices: {say}")
        values.check(name)


def drawn(over: Over, n: int, seed: int) -> list[dict[str, Any]]:
    """n settings, each field of them independent of the others.

    A Latin hypercube (McKay et al. 1979): each field's range is cut into n parts of equal probability, and every part
    has one setting. Each alone is uniform over its range, and together they leave no gap in any of them.
    """
    rng = np.random.default_rng(seed)
    columns = {name: values.at((rng.permutation(n) + rng.random(n)) / n) for name, values in over.items()}
    return [{name: column[i] for name, column in columns.items()} for i in range(n)]
