"""A point in a U-shaped maze: the way to the goal leads away from it first."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from thorndike.configuration import config
from thorndike.domains import Positive
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step

SIDE = 4.0  # half of the square's side
START, GOAL = (-3.0, -3.0), (-3.0, 3.0)
THICKNESS = 0.4  # half of the wall's; it reaches from the left side to the middle


class PointState(NamedTuple):
    """Where the point is, [2]."""

    position: Array


@config
class PointMaze:
    """Move a point through a square of 8 x 8, around a wall from the left side to the middle, to the other side of it.

    -1 for every step until the goal is reached, which ends the episode; 12 steps are enough from the middle of the
    start. Nothing says where the goal is: its place never changes. Random actions hardly ever get there in time.
    """

    step_size: Positive = 0.5  # the longest way along an axis in one step
    radius: Positive = 0.75  # distance from the goal within which it is reached
    max_steps: int = 100

    @property
    def render_fps(self) -> int:
        """Steps a second in films."""
        return 15

    @property
    def observation_space(self) -> Box:
        """Where the point is."""
        return Box(-SIDE, SIDE, (2,))

    @property
    def action_space(self) -> Box:
        """How far to go along each axis, in units of `step_size`."""
        return Box(-1.0, 1.0, (2,))

    def reset(self, key: Array) -> Step:
        """Near the lower left corner."""
        position = jnp.asarray(START) + jax.random.uniform(key, (2,), minval=-0.5, maxval=0.5)
        return Step(PointState(position), position)

    def step(self, state: PointState, action: Array, key: Array) -> Step:
        """Along the first axis, then along the second; where the wall is in the way, not at all."""
        position = state.position
        for axis in range(2):
            there = jnp.clip(position.at[axis].add(self.step_size * action[axis]), -SIDE, SIDE)
            position = jnp.where(blocked(there), position, there)
        reached = jnp.linalg.norm(position - jnp.asarray(GOAL)) < self.radius
        info: dict[str, Any] = {"success": reached}
        return Step(PointState(position), position, jnp.where(reached, 0.0, -1.0), reached, info)

    def render(self, state: PointState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: the wall, the goal in green, the point."""
        canvas = Canvas(x=(-SIDE - 0.2, SIDE + 0.2), y=(-SIDE - 0.2, SIDE + 0.2), width=320)
        x, y = np.asarray(state.position).tolist()
        canvas.polygon([(-SIDE, -THICKNESS), (0, -THICKNESS), (0, THICKNESS), (-SIDE, THICKNESS)], "#2b3a55")
        canvas.circle(GOAL, float(self.radius), "#3f9d5d")
        canvas.circle((x, y), 0.15, "#d9822b")
        return canvas.frame()


def blocked(position: Array) -> Array:
    """Whether a point [..., 2] is inside of the wall."""
    return (jnp.abs(position[..., 1]) < THICKNESS) & (position[..., 0] < 0.0)
