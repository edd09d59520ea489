"""Imperfect sensors and links around JAX environments: noise, delays, and readings that are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

from thorndike.configuration import config, require
from thorndike.envs.wrappers.base import Wrapped, Wrapper, allowed, refuse
from thorndike.nets.torso import leaves
from thorndike.types import Array, PyTree, Step


@config
class ObservationNoise(Wrapper):
    """Gaussian noise on observations, drawn anew for every number of every step.

    What is shown stays in the observation's space: it is clipped to the bounds, and whole numbers are rounded. Parts
    that are no Box are shown as they are.
    """

    std: float = 0.1  # standard deviation, in the observation's own units

    def check(self) -> None:
        """Noise, on numbers."""
        refuse(self)
        std = np.asarray(self.std)
        require(bool((std >= 0).all()), f"ObservationNoise.std must not be negative, got {std}")
        boxes = any(isinstance(leaf, Box) for leaf in leaves(self.env.observation_space))
        require(boxes, f"ObservationNoise needs observations with a Box, got {self.env.observation_space}")

    def reset(self, key: Array) -> Step:
        """The first observation has noise too."""
        nkey, key = jax.random.split(key)
        return self._noisy(self.env.reset(key), nkey)

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The inner step, seen through noise."""
        nkey, key = jax.random.split(key)
        return self._noisy(self.env.step(state.inner, action, key), nkey)

    def _noisy(self, step: Step, key: Array) -> Step:
        def change(space: Space, x: Array, key: Array) -> Array:
            if not isinstance(space, Box):
                return x
            noise, low, high = self.std * jax.random.normal(key, x.shape), space.low, space.high
            if space.dtype.kind == "f":
                return jnp.clip(x + noise, low.astype(np.float32), high.astype(np.float32)).astype(x.dtype)
            most = np.iinfo(np.int32)
            low, high = (np.clip(end, most.min, most.max).astype(np.int32) for end in (low, high))
            return jnp.clip(x.astype(jnp.int32) + jnp.round(noise).astype(jnp.int32), low, high).astype(x.dtype)

        obs = leafwise(self.env.observation_space, change, key, step.obs)
        return step._replace(state=Wrapped(step.state, ()), obs=obs)


@config
class Delay(Wrapper):
    """Observations are shown, and actions are executed, a fixed number of steps late (Walsh et al. 2009).

    Until the first delayed observation arrives the first of the episode is shown; until the first action does, the
    neutral one is executed: 0 of a Box (or the bound nearest to 0), the first of a list of choices. Rewards, endings
    and legal actions are those of the present step, and the time limit counts the same steps. An action that arrives
    where it is illegal is replaced by the one that was chosen for the present step.
    """

    observations: int = 0  # steps
    actions: int = 0  # steps

    def check(self) -> None:
        """Something is late."""
        refuse(self)
        late = min(self.observations, self.actions) >= 0 and max(self.observations, self.actions) > 0
        sizes = f"{self.observations} and {self.actions}"
        require(late, f"Delay needs observations or actions that are at least one step late, and none early: {sizes}")

    def reset(self, key: Array) -> Step:
        """The first observation fills the line of observations, and neutral actions that of actions."""
        step = self.env.reset(key)
        seen = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x)[None], self.observations, 0), step.obs)
        idle = neutral(self.env.action_space)
        due = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x)[None], self.actions, 0), idle)
        return self._waiting(step, seen, due)

    def step(self, state: Wrapped, action: PyTree, key: Array) -> Step:
        """The oldest action of the line is executed, and the oldest observation shown."""
        seen, due, legal = state.mine
        line = jax.tree.map(lambda old, new: jnp.concatenate([old, new[None].astype(old.dtype)]), due, action)
        now, due = jax.tree.map(lambda x: x[0], line), jax.tree.map(lambda x: x[1:], line)
        newest = jax.tree.map(lambda x: x[-1], line)
        step = self.env.step(state.inner, jax.tree.map(lambda a, b: jnp.where(legal, a, b), now, newest), key)
        line = jax.tree.map(lambda old, new: jnp.concatenate([old, new[None]]), seen, step.obs)
        oldest, seen = jax.tree.map(lambda x: x[0], line), jax.tree.map(lambda x: x[1:], line)
        return self._waiting(step, seen, due)._replace(obs=oldest)

    def _waiting(self, step: Step, seen: PyTree, due: PyTree) -> Step:
        """`step` with the lines of observations and actions, and whether the action that is due is legal then."""
        legal = jnp.bool_(True)
        if self.actions > 0:
            legal = allowed(self.env.action_space, step.info, jax.tree.map(lambda x: x[0], due))
        return step._replace(state=Wrapped(step.state, (seen, due, legal)))


@config
class SensorDropout(Wrapper):
    """With `probability`, readings are missing: each number by itself, or the whole observation.

    What is missing is shown as 0 (or the bound nearest to 0), or as what was shown last. Of "last" the first
    observation of an episode is complete.
    """

    probability: float = 0.1
    what: Literal["numbers", "observation"] = "numbers"
    shown: Literal["zero", "last"] = "zero"

    def check(self) -> None:
        """A probability."""
        refuse(self)
        p = np.asarray(self.probability)
        require(bool(((p >= 0) & (p <= 1)).all()), f"SensorDropout.probability must lie in [0, 1], got {p}")

    def reset(self, key: Array) -> Step:
        """The first observation."""
        dkey, key = jax.random.split(key)
        step = self.env.reset(key)
        return self._showing(step, step.obs if self.shown == "last" else self._seen(step.obs, (), dkey))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The inner step, in part unseen."""
        dkey, key = jax.random.split(key)
        step = self.env.step(state.inner, action, key)
        return self._showing(step, self._seen(step.obs, state.mine, dkey))

    def _showing(self, step: Step, obs: PyTree) -> Step:
        return step._replace(state=Wrapped(step.state, obs if self.shown == "last" else ()), obs=obs)

    def _seen(self, obs: PyTree, last: PyTree, key: Array) -> PyTree:
        whole = jax.random.bernoulli(key, self.probability)

        def change(space: Space, x: Array, key: Array, *last: Array) -> Array:
            missing = whole if self.what == "observation" else jax.random.bernoulli(key, self.probability, x.shape)
            return jnp.where(missing, last[0] if last else zero(space).astype(x.dtype), x)

        return leafwise(self.env.observation_space, change, key, obs, *([last] if self.shown == "last" else []))


def leafwise(space: Space, change: Callable[..., Array], key: Array, obs: PyTree, *others: PyTree) -> PyTree:
    """`change(space, x, key, *others)` of each array of an observation, each with a key of its own."""
    parts, structure = jax.tree.flatten(obs)
    keys = jax.random.split(key, len(parts))
    rows = zip(leaves(space), parts, keys, *map(jax.tree.leaves, others))
    return jax.tree.unflatten(structure, [change(*row) for row in rows])


def zero(space: Space) -> np.ndarray:
    """0 in a simple space, or the bound nearest to it."""
    if isinstance(space, Box):
        return np.clip(np.zeros(space.shape), space.low, space.high).astype(space.dtype)
    if isinstance(space, (Discrete, MultiDiscrete)):
        sizes = space.nvec if isinstance(space, MultiDiscrete) else space.n
        return np.clip(np.zeros(space.shape, np.int64), space.start, space.start + sizes - 1)
    return np.zeros(space.shape, np.int8)


def neutral(space: Space) -> PyTree:
    """The action that stands for none: zeros of a Box (or the bound nearest to 0), the first of choices."""
    if isinstance(space, Dict):
        return {name: neutral(part) for name, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(neutral(part) for part in space.spaces)
    if isinstance(space, (Discrete, MultiDiscrete)):
        return jnp.asarray(np.broadcast_to(space.start, space.shape or ()), jnp.int32)
    return jnp.asarray(zero(space))
