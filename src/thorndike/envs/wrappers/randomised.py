"""Environments whose numbers change from episode to episode: domain randomisation and curriculum."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import bare, check, config, require
from thorndike.envs.wrappers.base import Wrapped, Wrapper, layers, refuse
from thorndike.errors import ConfigError
from thorndike.types import Array, PyTree, Step


def numbers(env: Any) -> list[str]:
    """The names of its own float fields, or of what it has in their place."""
    own = getattr(env, "numbers", None)
    return [name for name, hint in env.__thorndike_hints__.items() if bare(hint) is float] if own is None else own


def with_numbers(env: Any, values: dict[str, Any]) -> Any:
    """The environment with other values in its `numbers`, each in the outermost layer that has one of that name."""
    own = {name: value for name, value in values.items() if name in numbers(env)}
    rest = {name: value for name, value in values.items() if name not in own}
    if hasattr(env, "with_numbers"):
        return env.with_numbers(own)
    return dataclasses.replace(env, **own, **({"env": with_numbers(env.env, rest)} if rest else {}))


def ends(ranges: Any, apart: bool = False) -> list[dict[str, float]]:
    """All numbers at their first end, and all at their last; `apart` also each number at the end where no other is."""
    low, high = ({name: bounds[i] for name, *bounds in ranges} for i in (0, 1))
    mixed = [both | {name: other[name]} for both, other in ((low, high), (high, low)) for name in low]
    return [low, high, *(mixed if apart else [])]


def check_ranges(wrapper: Any, worlds: list[dict[str, float]]) -> None:
    """Raise `ConfigError` unless the environment inside has the numbers in `ranges`, and can have those in `worlds`."""
    env, kind = wrapper.env, type(wrapper).__name__
    found = [name for layer in layers(env) for name in numbers(layer)]
    drawn = [name for layer in layers(env) if isinstance(layer, Randomised) for name, *_ in layer.ranges]
    for name, *_ in wrapper.ranges:
        require(name in found, f"{type(env).__name__} has no number {name!r}; it has {', '.join(found)}")
        require(name not in drawn, f"{name} is drawn anew by a wrapper inside: name it in one of the two")
    for values in worlds:
        try:
            check(with_numbers(env, values))
        except ConfigError as error:
            reached = ", ".join(f"{name} = {value}" for name, value in values.items())
            raise ConfigError(f"the ranges of {kind} reach {reached}: {error}") from None


@config
class Randomised(Wrapper):
    """Domain randomisation: at the start of each episode the environment's numbers are drawn anew.

    `ranges` names float fields of the environment inside (of gymnax's: float parameters), and the bounds between which
    they are uniform: `Randomised(env=td.CartPole(), ranges=(("half_length", 0.25, 1.0), ("gravity", 8.0, 12.0)))`.
    Where wrappers lie between, a name means the outermost field of that name.
    """

    ranges: tuple[tuple[str, float, float], ...]

    def check(self) -> None:
        """The fields exist, are floats, and may have these values."""
        refuse(self)
        for name, low, high in self.ranges:
            require(low <= high, f"the range of {name} is empty: {low} to {high}")
        check_ranges(self, ends(self.ranges, apart=True))

    def changed(self, values: Array) -> Any:
        """The inner environment with these values in its fields."""
        return with_numbers(self.env, {name: value for (name, *_), value in zip(self.ranges, values)})

    @property
    def render(self) -> Callable[[PyTree], np.ndarray]:
        """Draws this episode's world."""
        self.env.render  # noqa: B018  # what draws nothing has no such attribute
        return lambda state: self.changed(state.mine).render(state.inner)

    def reset(self, key: Array) -> Step:
        """An episode in a world of its own."""
        vkey, key = jax.random.split(key)
        return self.begin(self.task(vkey), key)

    def task(self, key: Array) -> Array:
        """The numbers of a world, drawn anew."""
        low, high = (jnp.array([bounds[i] for _, *bounds in self.ranges]) for i in (0, 1))
        return jax.random.uniform(key, low.shape, minval=low, maxval=high)

    def begin(self, task: Array, key: Array) -> Step:
        """An episode in a world with these numbers."""
        step = self.changed(task).reset(key)
        return step._replace(state=Wrapped(step.state, task))

    def task_of(self, state: Wrapped) -> Array:
        """The numbers of this episode's world."""
        return state.mine

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """A step in this episode's world."""
        step = self.changed(state.mine).step(state.inner, action, key)
        return step._replace(state=Wrapped(step.state, state.mine))


class Progress(NamedTuple):
    """How far a curriculum has come, in one of the environments that are stepped side by side."""

    level: Array  # in [0, 1]
    successes: Array  # running mean over episodes
    total: Array  # return of this episode so far


@config
class Curriculum(Wrapper):
    """The environment becomes harder as it is mastered: its numbers move from the easy ones to the hard ones.

    Each copy has a level of its own, from 0 to 1. After an episode the level rises by `rate` if the running mean of
    successes (returns of at least `success`, as shaped where a `Shaping` is inside) is at least `threshold`, and the
    mean begins anew at 0: as the defaults are, every rise takes 16 successes in a row, or more with failures among
    them. With a threshold of 0 the level rises after every episode, which is a schedule. It has to be the outermost
    wrapper. Evaluation, recordings and films are at level 1; a resumed run goes on at its levels.
    """

    ranges: tuple[tuple[str, float, float], ...]  # (field, easy, hard)
    success: float = 0.0
    threshold: float = 0.8  # at least 0 and less than 1, which a running mean from 0 only comes near
    rate: float = 0.1
    memory: float = 0.9  # of the running mean: 1 - memory is the weight of the newest episode

    def check(self) -> None:
        """The fields exist, are floats, and may have these values; and the level can rise."""
        refuse(self)
        for name in ("threshold", "memory"):
            share = np.asarray(getattr(self, name), np.float32)
            least = bool(((share >= 0) & (share < 1)).all())
            require(least, f"Curriculum.{name} must be at least 0 and less than 1, got {share}")
        require(bool((np.asarray(self.rate) >= 0).all()), f"Curriculum.rate must not be negative, got {self.rate}")
        check_ranges(self, ends(self.ranges))

    @property
    def evaluation(self) -> Any:
        """The inner environment at its hardest."""
        return self.changed(1.0)

    @property
    def render(self) -> Callable[[PyTree], np.ndarray]:
        """Draws the world of its level."""
        self.env.render  # noqa: B018
        return lambda state: self.changed(state.mine.level).render(state.inner)

    def changed(self, level: Array | float) -> Any:
        """The inner environment at a level."""
        return with_numbers(self.env, {name: easy + level * (hard - easy) for name, easy, hard in self.ranges})

    def reset(self, key: Array) -> Step:
        """The first episode: at level 0."""
        return self._begin(Progress(jnp.float32(0), jnp.float32(0), jnp.float32(0)), key)

    def again(self, state: Wrapped, key: Array) -> Step:
        """The next episode, after one that ended in `state`."""
        level, mean, total = state.mine
        mean = self.memory * mean + (1 - self.memory) * (total >= self.success)
        up = mean >= self.threshold
        level = jnp.where(up, jnp.minimum(level + self.rate, 1.0), level)
        return self._begin(Progress(level, jnp.where(up, 0.0, mean), jnp.float32(0)), key)

    def _begin(self, progress: Progress, key: Array) -> Step:
        step = self.changed(progress.level).reset(key)
        return step._replace(state=Wrapped(step.state, progress))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """A step at this episode's level."""
        step = self.changed(state.mine.level).step(state.inner, action, key)
        progress = state.mine._replace(total=state.mine.total + step.reward)
        return step._replace(state=Wrapped(step.state, progress))
