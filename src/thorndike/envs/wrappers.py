"""Environments around JAX environments (for those on the host there are Gymnasium's wrappers).

env = td.FrameStack(env=td.StickyActions(env=td.CartPole(), probability=0.25), frames=4)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.configuration import Inner, check, config, require
from thorndike.errors import ConfigError
from thorndike.types import Array, PyTree, Step


class Wrapped(NamedTuple):
    """The inner environment's state, and what the wrapper remembers."""

    inner: PyTree
    mine: PyTree


@config
class Wrapper:
    """The inner environment as it is; those below change one thing each."""

    env: Inner

    def check(self) -> None:
        """Around what can be wrapped."""
        refuse(self)

    @property
    def max_steps(self) -> int:
        """The time limit."""
        return self.env.max_steps

    @property
    def observation_space(self) -> Space:
        """Of one environment."""
        return self.env.observation_space

    @property
    def action_space(self) -> Space:
        """Of one environment."""
        return self.env.action_space

    @property
    def masked(self) -> bool:
        """Whether `info["mask"]` says which actions are legal."""
        return getattr(self.env, "masked", False)

    def reset(self, key: Array) -> Step:
        """The beginning of an episode."""
        return self.env.reset(key)

    def step(self, state: PyTree, action: Array, key: Array) -> Step:
        """One step on."""
        return self.env.step(state, action, key)

    @property
    def render(self) -> Callable[[PyTree], np.ndarray]:
        """A function of the state that draws a frame, where the innermost environment has one."""
        draw = self.env.render
        if type(self).reset is Wrapper.reset:  # it keeps nothing of its own
            return draw
        return lambda state: draw(state.inner if isinstance(state, Wrapped) else state)


def refuse(wrapper: Wrapper) -> None:
    """Raise `ConfigError` for an inner environment that the wrapper would break."""
    name, inner = type(wrapper).__name__, wrapper.env
    require(not hasattr(inner, "again"), f"{type(inner).__name__} has to be outermost: {name} goes inside of it")
    require(getattr(inner, "players", 1) == 1, f"{name} is for environments of one player, not for games")


def refuse_shaped(wrapper: Wrapper, does: str) -> None:
    """Raise `ConfigError` for shaped rewards inside, to which the wrapper does what changes the best policy."""
    name, shaped = type(wrapper).__name__, any(isinstance(layer, Shaping) for layer in layers(wrapper.env))
    right = f"put Shaping outside, Shaping(env={name}(env=...))"
    require(not shaped, f"{name} around Shaping {does}, which changes the best policy: {right}")


def allowed(space: Space, info: dict[str, Array], action: Array) -> Array:
    """Whether an environment's action is legal by `info["mask"]`; where there is no mask all are."""
    if "mask" not in info or not isinstance(space, (Discrete, MultiDiscrete)):
        return jnp.bool_(True)
    sizes = np.ravel(space.nvec if isinstance(space, MultiDiscrete) else space.n)
    begin = np.cumsum(sizes) - sizes  # of each part in the mask
    return jnp.ravel(info["mask"])[begin + jnp.ravel(action - space.start)].all()


@config
class TimeLimit(Wrapper):
    """Episodes are truncated after `steps`, unless the inner environment's own limit is shorter."""

    steps: int

    def check(self) -> None:
        """At least one step."""
        refuse(self)
        require(self.steps > 0, f"TimeLimit.steps must be positive, got {self.steps}")

    @property
    def max_steps(self) -> int:
        """The shorter of the two limits."""
        return min(self.steps, self.env.max_steps)


@config
class RewardScale(Wrapper):
    """Rewards times `scale`, then clipped to [-clip, clip] where `clip` is given; those of evaluations too."""

    scale: float = 1.0
    clip: float | None = None

    def check(self) -> None:
        """A bound that leaves something."""
        refuse(self)
        require(self.clip is None or self.clip > 0, f"RewardScale.clip must be positive, got {self.clip}")
        if self.clip is not None:
            refuse_shaped(self, "clips what it adds")

    def step(self, state: PyTree, action: Array, key: Array) -> Step:
        """The inner step with its reward changed."""
        step = self.env.step(state, action, key)
        reward = step.reward * self.scale
        return step._replace(reward=reward if self.clip is None else jnp.clip(reward, -self.clip, self.clip))


@config
class FrameStack(Wrapper):
    """The last `frames` observations, newest last; an episode begins with copies of its first.

    They lie on a new first axis, [frames, ...], but for images [H, W, C], which become [H, W, frames·C].
    """

    frames: int = 4

    def check(self) -> None:
        """At least one frame, of numbers."""
        refuse(self)
        require(self.frames > 0, f"FrameStack.frames must be positive, got {self.frames}")
        space = self.env.observation_space
        require(isinstance(space, (Box, MultiBinary)), f"FrameStack needs Box or MultiBinary observations, got {space}")

    @property
    def observation_space(self) -> Space:
        """[frames, ...], or [H, W, frames·C]."""
        space: Any = self.env.observation_space
        if isinstance(space, MultiBinary):
            return MultiBinary(self._seen(np.zeros((self.frames, *space.shape))).shape)
        low, high = (self._seen(np.repeat(bound[None], self.frames, 0)) for bound in (space.low, space.high))
        return Box(low, high, dtype=space.dtype.type)

    def reset(self, key: Array) -> Step:
        """Copies of the first observation."""
        step = self.env.reset(key)
        stack = jnp.repeat(step.obs[None], self.frames, 0)
        return step._replace(state=Wrapped(step.state, stack), obs=self._seen(stack))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The newest observation in, the oldest out."""
        step = self.env.step(state.inner, action, key)
        stack = jnp.concatenate([state.mine[1:], step.obs[None]])
        return step._replace(state=Wrapped(step.state, stack), obs=self._seen(stack))

    def _seen(self, stack: Any) -> Any:
        """[frames, ...] as it is shown."""
        if stack.ndim != 4:
            return stack
        return (np if isinstance(stack, np.ndarray) else jnp).concatenate(list(stack), -1)


@config
class ActionRepeat(Wrapper):
    """Each action is taken `times` times, or until the episode ends or the action is illegal; rewards add up."""

    times: int = 4

    def check(self) -> None:
        """At least once."""
        refuse(self)
        require(self.times > 0, f"ActionRepeat.times must be positive, got {self.times}")
        refuse_shaped(self, "sums what it adds without a discount")

    @property
    def max_steps(self) -> int:
        """The inner limit in these longer steps, rounded up, as if none was cut short."""
        return -(-self.env.max_steps // self.times)

    def reset(self, key: Array) -> Step:
        """No step was taken yet."""
        step = self.env.reset(key)
        return step._replace(state=Wrapped(step.state, jnp.int32(0)))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The inner steps as one."""

        def once(before: Wrapped, key: Array) -> Step:
            step = self.env.step(before.inner, action, key)
            return step._replace(
                state=Wrapped(step.state, before.mine + 1),
                reward=jnp.asarray(step.reward, jnp.float32),
                terminated=jnp.asarray(step.terminated, bool),
            )

        def again(before: Step, key: Array) -> tuple[Step, None]:
            after = once(before.state, key)
            after = after._replace(reward=before.reward + after.reward)
            over = before.terminated | (before.state.mine >= self.env.max_steps)
            over |= ~allowed(self.env.action_space, before.info, action)
            return jax.tree.map(lambda old, new: jnp.where(over, old, new), before, after), None

        key, *keys = jax.random.split(key, self.times)
        first = once(state, key)
        return jax.lax.scan(again, first, jnp.stack(keys))[0] if keys else first


@config
class StickyActions(Wrapper):
    """With `probability`, the last action is taken again in the place of the new one (Machado et al. 2018).

    Where the last action is illegal now, the new one is taken.
    """

    probability: float = 0.25

    def check(self) -> None:
        """A probability."""
        refuse(self)
        p = np.asarray(self.probability)
        require(bool(((p >= 0) & (p <= 1)).all()), f"StickyActions.probability must lie in [0, 1], got {p}")

    def reset(self, key: Array) -> Step:
        """Nothing was done yet: the first action is taken as it is."""
        step = self.env.reset(key)
        space = self.env.action_space
        last = jnp.zeros(space.shape or (), jnp.float32 if isinstance(space, Box) else jnp.int32)
        return step._replace(state=Wrapped(step.state, (last, jnp.bool_(False))))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The new action, or the last one."""
        ckey, key = jax.random.split(key)
        last, again = state.mine
        stick = again & jax.random.bernoulli(ckey, self.probability)
        action = jnp.where(stick, last, action).astype(last.dtype)
        step = self.env.step(state.inner, action, key)
        again = allowed(self.env.action_space, step.info, action)
        return step._replace(state=Wrapped(step.state, (action, again)))


@config
class Shaping(Wrapper):
    """Rewards plus γ Φ(s') - Φ(s), with Φ = 0 where an episode terminates: the best policy stays (Ng et al. 1999).

    `discount` has to be the algorithm's γ, and `potential` a function of one observation. `ActionRepeat` and
    `RewardScale` with a `clip` go inside of it. Evaluations report returns with what is added.
    """

    potential: Callable[[PyTree], Array]
    discount: float = 0.99

    @property
    def numbers(self) -> list[str]:
        """None that another wrapper may change: the discount is the algorithm's."""
        return []

    def reset(self, key: Array) -> Step:
        """Remembers Φ(s)."""
        step = self.env.reset(key)
        return step._replace(state=Wrapped(step.state, jnp.float32(self.potential(step.obs))))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The inner step with its reward shaped."""
        step = self.env.step(state.inner, action, key)
        later = jnp.float32(self.potential(step.obs))
        gain = self.discount * jnp.where(step.terminated, 0.0, later) - state.mine
        return step._replace(state=Wrapped(step.state, later), reward=step.reward + gain)


def layers(env: Any) -> list[Any]:
    """The environment, the one inside of it, and so on."""
    return [env, *layers(env.env)] if isinstance(env, Wrapper) else [env]


def numbers(env: Any) -> list[str]:
    """The names of its own float fields, or of what it has in their place."""
    own = getattr(env, "numbers", None)
    return [name for name, hint in env.__thorndike_hints__.items() if hint is float] if own is None else own


def with_numbers(env: Any, values: dict[str, Any]) -> Any:
    """The environment with other values in its `numbers`, each in the outermost layer that has one of that name."""
    own = {name: value for name, value in values.items() if name in numbers(env)}
    rest = {name: value for name, value in values.items() if name not in own}
    if hasattr(env, "with_numbers"):
        return env.with_numbers(own)
    return dataclasses.replace(env, **own, **({"env": with_numbers(env.env, rest)} if rest else {}))


def check_ranges(wrapper: Any) -> None:
    """Raise `ConfigError` unless the environment inside has the numbers in `ranges`, and can have them at both ends."""
    env, kind = wrapper.env, type(wrapper).__name__
    found = [name for layer in layers(env) for name in numbers(layer)]
    drawn = [name for layer in layers(env) if isinstance(layer, Randomised) for name, *_ in layer.ranges]
    for name, *_ in wrapper.ranges:
        require(name in found, f"{type(env).__name__} has no number {name!r}; it has {', '.join(found)}")
        require(name not in drawn, f"{name} is drawn anew by a wrapper inside: name it in one of the two")
    for ends in ({name: first for name, first, _ in wrapper.ranges}, {name: last for name, _, last in wrapper.ranges}):
        try:
            check(with_numbers(env, ends))
        except ConfigError as error:
            reached = ", ".join(f"{name} = {value}" for name, value in ends.items())
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
        check_ranges(self)

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
        low, high = (jnp.array([bounds[i] for _, *bounds in self.ranges]) for i in (0, 1))
        values = jax.random.uniform(vkey, low.shape, minval=low, maxval=high)
        step = self.changed(values).reset(key)
        return step._replace(state=Wrapped(step.state, values))

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
    successes (returns of at least `success`) is at least `threshold`, and the mean begins anew at 0: as the defaults
    are, every rise takes 16 successes in a row, or more with failures among them. With a threshold of 0 the level rises
    after every episode, which is a schedule. It has to be the outermost wrapper. Evaluation, recordings and films are
    at level 1; a resumed run goes on at its levels.
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
        check_ranges(self)

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
