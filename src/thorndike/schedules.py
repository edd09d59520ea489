"""Schedules: values for any float field of an algorithm, which drivers replace by a number before every iteration.

    td.PPO(learning_rate=td.Linear(3e-4, 0.0))                       # over the run, to zero
    td.DQN(exploration=td.Epsilon(start=td.Exponential(1.0, 0.99, per="episode", least=0.05), end=None))
    td.QLearning(learning_rate=td.Harmonic(1.0))                     # 1 / N(s, a)

An algorithm's own code sees numbers alone. On the command line: `--learning-rate linear:3e-4:0`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import config, require
from thorndike.types import Array

Unit = Literal["step", "episode"]


class Point(NamedTuple):
    """A point of a run: environment steps so far and planned, and episodes that have ended."""

    steps: Array | int
    total: Array | int
    episodes: Array | int


# Type checkers take a schedule for the number that it stands for: it may be the default of a float field.
Number: Any = float if TYPE_CHECKING else object


@config
class Schedule(Number):
    """A number that changes over a run."""

    @property
    def ends(self) -> list[Any]:
        """The numbers that it lies between, as far as they are known: what is held to a field's domain."""
        return [getattr(self, name) for name in ("start", "end", "least") if hasattr(self, name)]

    def at(self, point: Point) -> Any:
        """The number at a point of a run, float32; a schedule that counts something else gives itself."""
        raise NotImplementedError


@config(kw_only=False)
class Linear(Schedule):
    """From `start` to `end` in a straight line."""

    start: float
    end: float = 0.0
    fraction: float = 1.0  # of the run, after which it stays at `end`
    over: int | None = None  # steps or episodes that it takes, in the place of `fraction`
    per: Unit = "step"

    def check(self) -> None:
        """It ends within the run; episodes are not planned."""
        _check_length(self)

    def at(self, point: Point) -> Array:
        """end + (start - end) (1 - progress)."""
        return self.end + (self.start - self.end) * (1.0 - _progress(self, point))


@config(kw_only=False)
class Cosine(Schedule):
    """From `start` to `end` along half a cosine (Loshchilov & Hutter 2017, without restarts)."""

    start: float
    end: float = 0.0
    fraction: float = 1.0  # of the run, after which it stays at `end`
    over: int | None = None  # steps or episodes that it takes, in the place of `fraction`
    per: Unit = "step"

    def check(self) -> None:
        """It ends within the run; episodes are not planned."""
        _check_length(self)

    def at(self, point: Point) -> Array:
        """end + (start - end) (1 + cos(π progress)) / 2."""
        return self.end + (self.start - self.end) * 0.5 * (1.0 + jnp.cos(jnp.pi * _progress(self, point)))


@config(kw_only=False)
class Exponential(Schedule):
    """`start`, multiplied by `decay` with every step or episode, but never below `least`."""

    start: float
    decay: float
    per: Unit = "step"
    least: float = 0.0

    def check(self) -> None:
        """A factor that shrinks."""
        decay = np.asarray(self.decay)
        require(bool(((decay > 0) & (decay <= 1)).all()), f"Exponential.decay must lie in (0, 1], got {self.decay}")

    def at(self, point: Point) -> Array:
        """max(least, start · decayⁿ)."""
        n = jnp.float32(point.steps if self.per == "step" else point.episodes)
        return jnp.maximum(self.least, self.start * jnp.exp(n * jnp.log(jnp.float32(self.decay))))


@config(kw_only=False)
class Harmonic(Schedule):
    """start · (a / (a + n))^power: with `power` in (½, 1] a step size that sums to infinity and whose square does not
    (Robbins & Monro 1951).

    n counts, from 0, the updates of the pair (s, a) in tables (`per="visit"`), or steps or episodes.
    """

    start: float = 1.0
    a: float = 1.0
    power: float = 1.0
    per: Literal["visit", "step", "episode"] = "visit"

    def check(self) -> None:
        """Positive numbers."""
        for name in ("a", "power"):
            require(bool((np.asarray(getattr(self, name)) > 0).all()), f"Harmonic.{name} must be above 0")

    def at(self, point: Point) -> Any:
        """The number, where steps or episodes are counted."""
        if self.per == "visit":
            return self
        return self.of(jnp.float32(point.steps if self.per == "step" else point.episodes))

    def of(self, n: Array) -> Array:
        """The number at a count."""
        return self.start * (self.a / (self.a + n)) ** self.power


def _progress(schedule: Any, point: Point) -> Array:
    """How much of the schedule is done, in [0, 1]."""
    if schedule.over is None:
        done = jnp.float32(point.steps / point.total).clip(0.0, 1.0)
        return jnp.minimum(done / jnp.maximum(schedule.fraction, 1e-8), 1.0)
    return jnp.minimum((point.steps if schedule.per == "step" else point.episodes) / jnp.float32(schedule.over), 1.0)


def _check_length(schedule: Any) -> None:
    name = type(schedule).__name__
    fraction = np.asarray(schedule.fraction)
    require(bool(((fraction > 0) & (fraction <= 1)).all()), f"{name}.fraction must lie in (0, 1], got {fraction}")
    require(schedule.over is None or schedule.over > 0, f"{name}.over must be positive, got {schedule.over}")
    counted = schedule.per == "step" or schedule.over is not None
    require(counted, f'{name}(per="episode") needs over=, how many: a run plans its steps, not its episodes')


def is_schedule(value: Any) -> bool:
    """Whether `value` is a schedule."""
    return isinstance(value, Schedule)


def ends(value: Any) -> Any:
    """The numbers that a field's value lies between: those of a schedule, or the number itself."""
    return value.ends if is_schedule(value) else value


def scheduled(algorithm: Any) -> bool:
    """Whether any of an algorithm's numbers is a schedule."""
    return any(map(is_schedule, jax.tree.leaves(algorithm, is_leaf=is_schedule)))


def settled(algorithm: Any, steps: Array | int, total: Array | int, episodes: Array | int) -> Any:
    """The algorithm with every schedule replaced by its number at a point of the run."""
    point = Point(steps, total, episodes)
    return jax.tree.map(lambda x: x.at(point) if is_schedule(x) else x, algorithm, is_leaf=is_schedule)


KINDS: dict[str, Any] = {"linear": Linear, "cosine": Cosine, "exponential": Exponential, "harmonic": Harmonic}


def parse(text: str) -> Any:
    """A schedule as the command line writes it, "linear:3e-4:0"; raises `ValueError`."""
    name, *words = text.split(":")
    cls = KINDS[name]
    values = {}
    for field, word in zip(dataclasses.fields(cls), words, strict=False):  # type: ignore[arg-type]
        values[field.name] = word if field.name == "per" else int(word) if field.name == "over" else float(word)
    if len(words) > len(dataclasses.fields(cls)):  # type: ignore[arg-type]
        raise ValueError(f"{name} takes {', '.join(f.name for f in dataclasses.fields(cls))}")  # type: ignore[arg-type]
    return cls(**values)


def spell(schedule: Any) -> str:
    """The inverse of `parse`."""
    fields = dataclasses.fields(schedule)
    values = [getattr(schedule, field.name) for field in fields]
    while values and values[-1] == fields[len(values) - 1].default:
        values.pop()
    name = next(name for name, cls in KINDS.items() if type(schedule) is cls)
    return ":".join([name, *(f"{x:g}" if isinstance(x, float) else str(x) for x in values)])
