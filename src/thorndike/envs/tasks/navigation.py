"""Two-dimensional navigation, a family of tasks (Finn et al. 2017, section 5.3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from thorndike.configuration import config
from thorndike.envs.draw import Canvas
from thorndike.envs.tasks.family import Placed, drawn
from thorndike.types import Array, Step


@config
class Navigation2D:
    """A point goes from the origin to a goal that it cannot see; a task is the goal, uniform in [-0.5, 0.5]².

    The reward is minus the distance to the goal, and a step is at most 0.1 in each direction. Within 0.01 of the goal
    an episode ends.
    """

    max_steps: int = 100

    @property
    def observation_space(self) -> Box:
        """The point's place [2]."""
        return Box(-np.inf, np.inf, (2,), np.float32)

    @property
    def action_space(self) -> Box:
        """How far it moves [2]."""
        return Box(-0.1, 0.1, (2,), np.float32)

    def task(self, key: Array) -> Array:
        """The goal [2]."""
        return jax.random.uniform(key, (2,), minval=-0.5, maxval=0.5)

    def begin(self, task: Array, key: Array) -> Step:
        """At the origin."""
        return Step(Placed(task, jnp.zeros(2)), jnp.zeros(2))

    def task_of(self, state: Placed) -> Array:
        """The goal."""
        return state.task

    def reset(self, key: Array) -> Step:
        """At the origin, with another goal."""
        return drawn(self, key)

    def step(self, state: Placed, action: Array, key: Array) -> Step:
        """One move."""
        place = state.place + jnp.clip(action, -0.1, 0.1)
        away = jnp.linalg.norm(place - state.task)
        return Step(Placed(state.task, place), place, -away, (jnp.abs(place - state.task) < 0.01).all())

    def render(self, state: Placed) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: the goal in green, the point."""
        canvas = Canvas(x=(-1, 1), y=(-1, 1))
        canvas.circle((float(state.task[0]), float(state.task[1])), 0.05, "#4caf50")
        canvas.circle((float(state.place[0]), float(state.place[1])), 0.04, "#2b3a55")
        return canvas.frame()
