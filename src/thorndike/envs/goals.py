"""Goals: what a transition would have earned had another goal been desired.

An environment with goals shows a Dict with "observation", "achieved_goal" and "desired_goal", and has the methods of
Gymnasium-Robotics: `compute_reward(achieved_goal, desired_goal, info)` and, where reaching a goal ends an episode,
`compute_terminated(achieved_goal, desired_goal, info)`. Both are functions of the two goals alone; `info` is {}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Dict

from thorndike.envs.batched import is_jax
from thorndike.errors import EnvError
from thorndike.types import Array, PyTree

OBSERVED, ACHIEVED, DESIRED = "observation", "achieved_goal", "desired_goal"


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class JaxGoal:
    """The goal functions of a JAX environment, a single instance's, over batches."""

    env: Any

    def __call__(self, achieved: PyTree, desired: PyTree) -> tuple[Array, Array | None]:
        """Rewards [B] and terminations [B] (None: they do not depend on the goal) of goals [B, ...]."""
        ends = getattr(self.env, "compute_terminated", None)
        reward = jax.vmap(lambda a, d: jnp.asarray(self.env.compute_reward(a, d, {}), jnp.float32))(achieved, desired)
        if ends is None:
            return reward, None
        return reward, jax.vmap(lambda a, d: jnp.asarray(ends(a, d, {}), bool))(achieved, desired)


class HostGoal:
    """The goal functions of a Gymnasium environment, called from compiled programs.

    They run in NumPy, on an environment of their own. Whether they take batches is tried out once, on two rows of which
    one is reached; where they do not, they are called row by row.
    """

    def __init__(self, make: Callable[[], Any], name: str, space: Dict):
        self.name, self.make, self.space = name, make, space[ACHIEVED]

    @cached_property
    def functions(self) -> tuple[Any, Any]:
        """Rewards, and terminations or None, of goals [B, ...] as numbers [B]; the environment is made now."""
        env = self.make().unwrapped
        ends = getattr(env, "compute_terminated", None)
        return self._rows(env.compute_reward), None if ends is None else self._rows(ends)

    def _rows(self, method: Callable[..., Any]) -> Callable[[Any, Any], np.ndarray]:
        zeros = np.zeros((2, *(self.space.shape or ())), self.space.dtype)
        desired = zeros.copy()
        desired[1] = 1
        two = (zeros, desired)

        def each(achieved: Any, desired: Any) -> np.ndarray:
            return np.array([method(a, d, {}) for a, d in zip(achieved, desired)], float).reshape(len(achieved))

        try:
            alone = each(*two)
        except Exception as error:  # whatever a method of the environment's author raises
            raise EnvError(
                f"{self.name}.{method.__name__} failed for goals of zeros and ones and an info of {{}} "
                f"({type(error).__name__}: {error}): it may only look at the two goals"
            ) from error
        try:
            together = np.asarray(method(*two, {}))
        except Exception:
            return each
        if together.shape != (2,) or not np.array_equal(together.astype(float), alone):
            return each
        return lambda achieved, desired: np.asarray(method(achieved, desired, {}), float)

    def __call__(self, achieved: Array, desired: Array) -> tuple[Array, Array | None]:
        """Rewards [B] and terminations [B] (None: they do not depend on the goal) of goals [B, ...]."""
        rows = jax.ShapeDtypeStruct(achieved.shape[:1], jnp.float32)
        shape = achieved.shape[1:]

        def told(function: Callable[[Any, Any], np.ndarray], achieved: Any, desired: Any) -> np.ndarray:
            achieved, desired = np.asarray(achieved), np.asarray(desired)
            lead = achieved.shape[: achieved.ndim - len(shape)]  # runs, and rows
            flat = (x.reshape(-1, *shape) for x in (achieved, desired))
            return function(*flat).astype(np.float32).reshape(lead)

        def call(function: Callable[[Any, Any], np.ndarray]) -> Array:
            back = lambda a, d: told(function, a, d)  # noqa: E731
            return jax.pure_callback(back, rows, achieved, desired, vmap_method="broadcast_all")

        reward, ends = self.functions
        return call(reward), None if ends is None else call(ends) > 0


def has_goals(space: Space) -> bool:
    """Whether observations of this space show goals."""
    names = (OBSERVED, ACHIEVED, DESIRED)
    return isinstance(space, Dict) and all(name in space.spaces for name in names)


def goal_of(env: Any) -> Any:
    """What computes rewards and terminations for other goals, of a JAX environment or an adapter; None: it has none."""
    if is_jax(env):
        return JaxGoal(env) if hasattr(type(env), "compute_reward") and has_goals(env.observation_space) else None
    return getattr(env, "goal", None)
