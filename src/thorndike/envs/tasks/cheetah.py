"""A running robot whose tasks are directions or speeds (Finn et al. 2017, section 5.3)."""

from __future__ import annotations

import json
from typing import Literal

import jax
import jax.numpy as jnp
from gymnasium import Space

from thorndike.configuration import config, require
from thorndike.envs.adapters.brax import Robot
from thorndike.envs.tasks.family import Placed, drawn
from thorndike.types import Array, Step

FASTEST = 2.0  # m/s, the highest speed that is asked for


@config
class CheetahTask:
    """Brax's half cheetah, which is not told how to run: forward or backward, or how fast.

    With v the velocity of its trunk in m/s, the reward is g v, g = 1 or -1 with the same probability ("direction"), or
    -|v - g|, g uniform in [0, 2] ("velocity"); beside it Brax's cost of control, -0.1 |a|². It needs Brax:
    `pip install -e ".[brax]"`.
    """

    kind: Literal["direction", "velocity"] = "direction"
    backend: Literal["generalized", "positional", "spring"] = "generalized"  # Brax's physics
    max_steps: int = 200

    def check(self) -> None:
        """An episode has at least one step."""
        require(self.max_steps > 0, f"CheetahTask.max_steps must be positive, got {self.max_steps}")

    @property
    def robot(self) -> Robot:
        """The robot without a task."""
        return Robot(name="halfcheetah", options=json.dumps({"backend": self.backend}), max_steps=self.max_steps)

    @property
    def observation_space(self) -> Space:
        """Positions but the trunk's place, and velocities [17]."""
        return self.robot.observation_space

    @property
    def action_space(self) -> Space:
        """Torques [6]."""
        return self.robot.action_space

    def task(self, key: Array) -> Array:
        """The direction, 1 or -1, or the speed in m/s."""
        if self.kind == "direction":
            return jax.random.rademacher(key, (), jnp.float32)
        return jax.random.uniform(key, maxval=FASTEST)

    def begin(self, task: Array, key: Array) -> Step:
        """Standing."""
        step = self.robot.reset(key)
        return step._replace(state=Placed(task, step.state))

    def task_of(self, state: Placed) -> Array:
        """The direction or the speed."""
        return state.task

    def reset(self, key: Array) -> Step:
        """Standing, with another task."""
        return drawn(self, key)

    def step(self, state: Placed, action: Array, key: Array) -> Step:
        """One control step, paid by the task."""
        step = self.robot.step(state.place, action, key)
        metrics = step.state.metrics
        speed = metrics["x_velocity"]
        paid = state.task * speed if self.kind == "direction" else -jnp.abs(speed - state.task)
        return Step(Placed(state.task, step.state), step.obs, paid + metrics["reward_ctrl"], step.terminated)
