"""What every environment around a JAX environment is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from gymnasium import Space

from thorndike.configuration import Inner, config, require
from thorndike.envs.conformance import joined
from thorndike.envs.masks import mask_sizes
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


def layers(env: Any) -> list[Any]:
    """The environment, the one inside of it, and so on."""
    return [env, *layers(env.env)] if isinstance(env, Wrapper) else [env]


def allowed(space: Space, info: dict[str, Array], action: Array) -> Array:
    """Whether an environment's action is legal by `info["mask"]`; where there is no mask all are."""
    if "mask" not in info:
        return jnp.bool_(True)
    sizes = np.asarray(mask_sizes(space))
    begin = np.cumsum(sizes) - sizes  # of each part in the mask
    return jnp.ravel(joined(info["mask"]))[begin + jnp.ravel(action - getattr(space, "start", 0))].all()
