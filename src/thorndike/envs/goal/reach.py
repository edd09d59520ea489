"""Reaching a point in the plane: a goal-conditioned task with continuous actions and a sparse reward."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Dict

from thorndike.configuration import config
from thorndike.domains import Positive
from thorndike.envs.draw import Canvas
from thorndike.envs.goals import ACHIEVED, DESIRED, OBSERVED
from thorndike.types import Array, Step


class ReachState(NamedTuple):
    """Where the hand is, how fast it moves, and where it should be; [2] each."""

    position: Array
    velocity: Array
    goal: Array


@config
class Reach:
    """Push a hand with some inertia to a random point of the square [-1, 1]², and hold it there.

    -1 for every step that ends farther than `tolerance` from the goal, else 0, as in Gymnasium-Robotics' FetchReach
    (Plappert et al. 2018). Only the time limit ends an episode.
    """

    tolerance: Positive = 0.05  # distance within which the goal is reached
    speed: Positive = 0.1  # the longest way along an axis in one step
    inertia: float = 0.5  # share of the velocity that a step keeps, in [0, 1)
    max_steps: int = 50

    @property
    def render_fps(self) -> int:
        """Steps a second in films."""
        return 15

    @property
    def observation_space(self) -> Dict:
        """Position and velocity; where the hand is; where it should be."""
        plane = Box(-1.0, 1.0, (2,))
        return Dict({OBSERVED: Box(-1.0, 1.0, (4,)), ACHIEVED: plane, DESIRED: plane})

    @property
    def action_space(self) -> Box:
        """A push along each axis."""
        return Box(-1.0, 1.0, (2,))

    def observe(self, state: ReachState) -> dict[str, Array]:
        """What is seen; velocities in units of the greatest."""
        seen = jnp.concatenate([state.position, state.velocity / self.speed])
        return {OBSERVED: seen, ACHIEVED: state.position, DESIRED: state.goal}

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: dict[str, Any]) -> Array:
        """0 within the tolerance, else -1."""
        return jnp.where(self._reached(achieved_goal, desired_goal), 0.0, -1.0)

    def _reached(self, achieved: Array, desired: Array) -> Array:
        return jnp.sqrt(((achieved - desired) ** 2).sum(-1)) <= self.tolerance

    def reset(self, key: Array) -> Step:
        """The hand rests in the middle."""
        zero = jnp.zeros(2)
        state = ReachState(zero, zero, jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0))
        return Step(state, self.observe(state))

    def step(self, state: ReachState, action: Array, key: Array) -> Step:
        """Push, move, stop at the walls."""
        velocity = self.inertia * state.velocity + (1 - self.inertia) * self.speed * action
        position = jnp.clip(state.position + velocity, -1.0, 1.0)
        state = ReachState(position, velocity, state.goal)
        reward = self.compute_reward(position, state.goal, {})
        return Step(state, self.observe(state), reward, info={"success": self._reached(position, state.goal)})

    def render(self, state: ReachState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: the goal in green, the hand."""
        canvas = Canvas(x=(-1.1, 1.1), y=(-1.1, 1.1), width=320)
        (gx, gy), (x, y) = np.asarray(state.goal).tolist(), np.asarray(state.position).tolist()
        canvas.circle((gx, gy), max(0.03, float(self.tolerance)), "#3f9d5d")
        canvas.circle((x, y), 0.04, "#d9822b")
        return canvas.frame()
