"""Pendulum-v1: swing up a rod too heavy for its motor (after Doya 2000), step for step Gymnasium's."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from thorndike.configuration import config
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step

MAX_SPEED = 8.0  # rad/s
MAX_TORQUE = 2.0  # N m


class PendulumState(NamedTuple):
    """Angle (rad, 0 is upright, never wrapped) and angular velocity (rad/s)."""

    theta: Array
    theta_dot: Array


@config
class Pendulum:
    """Choose a torque; the cost is θ² + 0.1 θ̇² + 0.001 u², with θ in [-π, π). It never terminates."""

    gravity: float = 10.0  # m/s²
    mass: float = 1.0  # of the uniform rod, kg
    length: float = 1.0  # m
    dt: float = 0.05  # s, semi-implicit Euler
    max_steps: int = 200

    @property
    def observation_space(self) -> Box:
        """Cosine and sine of the angle, angular velocity."""
        high = np.array([1.0, 1.0, MAX_SPEED], np.float32)
        return Box(-high, high, dtype=np.float32)

    @property
    def action_space(self) -> Box:
        """The torque, counter-clockwise."""
        return Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)

    def reset(self, key: Array) -> Step:
        """Any angle, velocity uniform in [-1, 1]."""
        scale = np.array([np.pi, 1.0], np.float32)
        state = PendulumState(*(scale * jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)))
        return Step(state, _observe(state))

    def step(self, state: PendulumState, action: Array, key: Array) -> Step:
        """θ̈ = 3g/(2l) sin θ + 3u/(m l²), a rod's moment being m l²/3; the cost is of the state it leaves."""
        theta, theta_dot = state
        u = jnp.clip(action[0], -MAX_TORQUE, MAX_TORQUE)
        angle = jnp.mod(theta + np.pi, 2 * np.pi) - np.pi
        cost = angle**2 + 0.1 * theta_dot**2 + 0.001 * u**2
        inertia = self.mass * self.length**2 / 3.0
        theta_acc = 1.5 * self.gravity / self.length * jnp.sin(theta) + u / inertia
        theta_dot = jnp.clip(theta_dot + self.dt * theta_acc, -MAX_SPEED, MAX_SPEED)
        state = PendulumState(theta + self.dt * theta_dot, theta_dot)
        return Step(state, _observe(state), -cost, jnp.asarray(False))

    def state_of(self, obs: Array) -> PendulumState:
        """The state that an observation [3] shows."""
        return PendulumState(jnp.arctan2(obs[1], obs[0]), obs[2])

    def render(self, state: PendulumState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]."""
        length, theta = float(self.length), float(state.theta)
        canvas = Canvas(x=(-1.2 * length, 1.2 * length), y=(-1.2 * length, 1.2 * length))
        tip = (-length * np.sin(theta), length * np.cos(theta))
        canvas.circle((0.0, 0.0), 1.1 * length, "#eef1f5")
        canvas.line((0.0, 0.0), tip, "#d9822b", 0.16 * length)
        canvas.circle((0.0, 0.0), 0.05 * length, "#2b3a55")
        return canvas.frame()


def _observe(state: PendulumState) -> Array:
    return jnp.stack([jnp.cos(state.theta), jnp.sin(state.theta), state.theta_dot])
