"""Potential-based shaping of rewards, which leaves the best policy as it is (Ng et al. 1999)."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.envs.wrappers.base import Wrapped, Wrapper, layers
from thorndike.types import Array, PyTree, Step


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


def refuse_shaped(wrapper: Wrapper, does: str) -> None:
    """Raise `ConfigError` for shaped rewards inside, to which the wrapper does what changes the best policy."""
    name, shaped = type(wrapper).__name__, any(isinstance(layer, Shaping) for layer in layers(wrapper.env))
    right = f"put Shaping outside, Shaping(env={name}(env=...))"
    require(not shaped, f"{name} around Shaping {does}, which changes the best policy: {right}")
