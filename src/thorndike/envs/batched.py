"""From one JAX environment to a batch that resets itself: time limit, auto-reset, `final_obs`, legal actions.

Auto-reset is same-step and only here: `obs` is already the new episode's, `final_obs` always the true successor,
`terminated` and `truncated` stay apart. The same boundary rounds and clips Box actions and shifts Discrete ones.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from jax.dtypes import canonicalize_dtype

from thorndike.configuration import is_config
from thorndike.envs.conformance import agree, answered
from thorndike.envs.mixed import Mixed
from thorndike.ops.keys import random_key
from thorndike.types import SHOWN, Array, Environment, PyTree, Step, Timestep


class Simulator(NamedTuple):
    """What the batch keeps per environment."""

    state: PyTree
    steps: Array  # in this episode


def to_environment(space: Space, action: Any) -> Any:
    """An algorithm's action in the environment's terms: Box clipped to its bounds, of whole numbers to the nearest one;
    Discrete shifted by `start`; of a `Mixed` vector each part so."""
    if isinstance(space, Mixed):
        return space.bounded(action, np if isinstance(action, np.ndarray) else jnp)
    if isinstance(space, Box):
        if space.dtype.kind != "f":
            return _whole(space, action)
        xp = np if isinstance(action, np.ndarray) else jnp
        return xp.clip(action, space.low, space.high).astype(space.dtype)
    if isinstance(space, (Discrete, MultiDiscrete)):
        start = np.asarray(space.start)
        action = action + start.astype(space.dtype) if start.any() else action
    return action.astype(space.dtype) if isinstance(action, np.ndarray) and action.dtype.kind in "iub" else action


def _whole(space: Box, action: Any) -> Any:
    """The nearest actions of a Box of whole numbers, or of bools; on JAX's side they have at most 32 bits."""
    on_host = isinstance(action, np.ndarray)
    xp, real, dtype = (np, np.float64, space.dtype) if on_host else (jnp, np.float32, canonicalize_dtype(space.dtype))
    whole: Any = np.uint8 if dtype.kind == "b" else dtype
    limits = np.iinfo(whole)
    low, high = (np.clip(bound, limits.min, limits.max).astype(whole) for bound in (space.low, space.high))
    if not jnp.issubdtype(action.dtype, jnp.integer):
        most = real(limits.max)
        if int(most) > limits.max:  # rounded up to what the type does not hold
            most = np.nextafter(most, real(0))
        action = xp.clip(xp.rint(action.astype(real)), real(limits.min), most).astype(whole)
    return xp.clip(action, low, high).astype(dtype)


@partial(jax.tree_util.register_dataclass, data_fields=["env"], meta_fields=["num_envs"])
@dataclasses.dataclass(frozen=True)
class Batched:
    """`num_envs` copies of a JAX environment, stepped together. A pytree: its leaves are the physics."""

    env: Environment
    num_envs: int

    def reset(self, key: Array) -> Timestep:
        """The first timestep, leading axis [E]."""
        return self._first(answered(self.env, "reset", jax.vmap(self.env.reset)(jax.random.split(key, self.num_envs))))

    def begin(self, tasks: PyTree, key: Array) -> Timestep:
        """The first timestep of episodes in given tasks [E, ...], of an environment that has some (`TaskFamily`)."""
        begin: Any = self.env.begin  # type: ignore[attr-defined]
        return self._first(answered(self.env, "begin", jax.vmap(begin)(tasks, jax.random.split(key, self.num_envs))))

    def _first(self, fresh: Step) -> Timestep:
        no, zero = jnp.zeros(self.num_envs, bool), jnp.zeros(self.num_envs)
        shown = {name: fresh.info[name] for name in SHOWN if name in fresh.info}
        info = {**shown, **{f"final_{name}": x for name, x in shown.items()}}
        sim = Simulator(fresh.state, jnp.zeros(self.num_envs, jnp.int32))
        return Timestep(fresh.obs, zero, no, no, fresh.obs, ~no, info, sim)

    def step(self, now: Timestep, action: Array, key: Array) -> Timestep:
        """The timestep after `action` [E, ...]; environments whose episode ended are already reset."""
        step_key, reset_key = jax.random.split(key)
        action = to_environment(self.env.action_space, action)
        keys = jax.random.split(step_key, self.num_envs)
        stepped = answered(self.env, "step", jax.vmap(self.env.step)(now.sim.state, action, keys))
        terminated = jnp.asarray(stepped.terminated, bool)
        steps = now.sim.steps + 1
        truncated = (steps >= self.env.max_steps) & ~terminated
        done = terminated | truncated
        keys = jax.random.split(reset_key, self.num_envs)
        if hasattr(self.env, "again"):  # the next episode depends on the last
            fresh = answered(self.env, "again", jax.vmap(self.env.again)(stepped.state, keys))
        else:
            fresh = answered(self.env, "reset", jax.vmap(self.env.reset)(keys))
        agree(self.env, fresh, stepped)

        def choose(new, old):
            if old.shape[:1] != done.shape:  # of no one environment: Playground's have such leaves
                return old
            return jnp.where(done.reshape(done.shape + (1,) * (old.ndim - 1)), new, old)

        state, obs = jax.tree.map(choose, (fresh.state, fresh.obs), (stepped.state, stepped.obs))
        shown = {name: stepped.info[name] for name in SHOWN if name in stepped.info}
        info = {name: jax.tree.map(choose, fresh.info[name], x) for name, x in shown.items()}
        info |= {f"final_{name}": x for name, x in shown.items()}
        earned = {name: x for name, x in stepped.info.items() if name not in SHOWN}
        sim = Simulator(state, jnp.where(done, 0, steps))
        reward = jnp.asarray(stepped.reward, jnp.float32)
        return Timestep(obs, reward, terminated, truncated, stepped.obs, done, info, sim, earned)


PARTS = ("reset", "step", "observation_space", "action_space")


def is_jax(env: Any) -> bool:
    """Whether `env` is a JAX environment: a config with pure `reset` and `step`."""
    return is_config(env) and not isinstance(env, type) and all(hasattr(type(env), part) for part in PARTS)


def is_masked(env: Any) -> bool:
    """Whether an environment says which actions are legal: a JAX one by `info["mask"]`."""
    if not is_jax(env):
        return bool(getattr(env, "masked", False))
    leaves, structure = jax.tree.flatten(env)
    return _shows_mask(structure, tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves))


@lru_cache(maxsize=64)
def _shows_mask(structure: Any, leaves: tuple[tuple[tuple[int, ...], Any], ...]) -> bool:
    env = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])
    step = jax.eval_shape(lambda env, key: env.reset(key), env, jax.eval_shape(lambda: random_key(0)))
    return "mask" in step.info
