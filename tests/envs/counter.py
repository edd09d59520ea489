"""An environment that shows what a wrapper did to it: its observation counts the steps since the reset."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from thorndike.configuration import config
from thorndike.types import Array, Step


class CounterState(NamedTuple):
    t: Array


@config
class Counter:
    """Observation [t], reward t; terminates when t reaches `ends` (0: never). Only a reset shows [0]."""

    ends: int = 0
    scale: float = 1.0  # of the reward
    max_steps: int = 5

    @property
    def observation_space(self) -> Box:
        return Box(0.0, np.inf, (1,), np.float32)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    def reset(self, key: Array) -> Step:
        return self._show(jnp.int32(0))

    def step(self, state: CounterState, action: Array, key: Array) -> Step:
        return self._show(state.t + 1)

    def _show(self, t: Array) -> Step:
        seen = t.astype(jnp.float32)
        return Step(CounterState(t), seen[None], self.scale * seen, (t == self.ends) & (t > 0))

    def render(self, state: CounterState) -> np.ndarray:
        return np.full((8, 8, 3), int(state.t), np.uint8)
