"""MountainCarContinuous-v0: the mountain car of Moore (1990) with a throttle, step for step Gymnasium's."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from thorndike.configuration import config
from thorndike.envs.classic.mountain_car import CarState, car_reset, car_space, draw_car, drive
from thorndike.types import Array, Step


@config
class MountainCarContinuous:
    """Choose an acceleration in [-1, 1]; 100 at the flag, and each step costs a tenth of its square."""

    power: float = 0.0015  # position / step² at full throttle
    gravity: float = 0.0025  # position / step²
    goal_position: float = 0.45
    goal_velocity: float = 0.0  # at least this fast at the flag, position / step
    max_steps: int = 999

    @property
    def observation_space(self) -> Box:
        """Position and velocity."""
        return car_space()

    @property
    def action_space(self) -> Box:
        """The throttle, -1 (full left) to 1 (full right)."""
        return Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, key: Array) -> Step:
        """At rest, somewhere in [-0.6, -0.4]."""
        return car_reset(key)

    def step(self, state: CarState, action: Array, key: Array) -> Step:
        """The car feels the clipped action; the cost is, as in Gymnasium, that of the action as given."""
        state = drive(state, jnp.clip(action[0], -1.0, 1.0) * self.power, self.gravity)
        there = (state.position >= self.goal_position) & (state.velocity >= self.goal_velocity)
        reward = jnp.where(there, 100.0, 0.0) - 0.1 * action[0] ** 2
        return Step(state, jnp.stack(state), reward.astype(jnp.float32), there)

    def render(self, state: CarState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]."""
        return draw_car(state, float(self.goal_position))
