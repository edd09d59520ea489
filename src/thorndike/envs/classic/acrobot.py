"""Acrobot-v1: swing a two-link arm up by the joint in its middle (Sutton 1996), step for step Gymnasium's."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from thorndike.configuration import config
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step

MAX_SPEED_1, MAX_SPEED_2 = 4 * np.pi, 9 * np.pi  # rad/s


class AcrobotState(NamedTuple):
    """Upper link's angle (rad, 0 hangs), lower link's relative to it, and their velocities (rad/s)."""

    theta_1: Array
    theta_2: Array
    theta_1_dot: Array
    theta_2_dot: Array


@config
class Acrobot:
    """Turn the middle joint left, right or not at all; reward -1 a step until the tip is above the bar."""

    gravity: float = 9.8  # m/s²
    mass_1: float = 1.0  # upper link, kg
    mass_2: float = 1.0  # lower link, kg
    length_1: float = 1.0  # m
    length_2: float = 1.0  # m
    centre_1: float = 0.5  # from the link's upper joint to its centre of mass, m
    centre_2: float = 0.5  # m
    inertia_1: float = 1.0  # about the centre of mass, kg m²
    inertia_2: float = 1.0  # kg m²
    torque: float = 1.0  # N m
    goal_height: float = 1.0  # of the bar above the fixed joint, m
    dt: float = 0.2  # s, one Runge-Kutta step of fourth order
    max_steps: int = 500

    @property
    def observation_space(self) -> Box:
        """Cosine and sine of the first angle, of the second, then both velocities."""
        high = np.array([1, 1, 1, 1, MAX_SPEED_1, MAX_SPEED_2], np.float32)
        return Box(-high, high, dtype=np.float32)

    @property
    def action_space(self) -> Discrete:
        """Torque: 0 negative, 1 none, 2 positive."""
        return Discrete(3)

    def reset(self, key: Array) -> Step:
        """All four quantities uniform in [-0.1, 0.1]."""
        state = AcrobotState(*jax.random.uniform(key, (4,), minval=-0.1, maxval=0.1))
        return Step(state, _observe(state))

    def step(self, state: AcrobotState, action: Array, key: Array) -> Step:
        """Angles are wrapped to [-π, π] and velocities clipped; the step that reaches the bar is free."""
        y, dt, torque = jnp.stack(state), self.dt, (action - 1) * self.torque
        k1 = self._motion(y, torque)
        k2 = self._motion(y + dt / 2 * k1, torque)
        k3 = self._motion(y + dt / 2 * k2, torque)
        k4 = self._motion(y + dt * k3, torque)
        theta_1, theta_2, theta_1_dot, theta_2_dot = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        state = AcrobotState(
            _wrap(theta_1),
            _wrap(theta_2),
            jnp.clip(theta_1_dot, -MAX_SPEED_1, MAX_SPEED_1),
            jnp.clip(theta_2_dot, -MAX_SPEED_2, MAX_SPEED_2),
        )
        height = -self.length_1 * jnp.cos(state.theta_1) - self.length_2 * jnp.cos(state.theta_1 + state.theta_2)
        up = height > self.goal_height
        return Step(state, _observe(state), jnp.where(up, jnp.float32(0.0), jnp.float32(-1.0)), up)

    def _motion(self, y: Array, torque: Array) -> Array:
        """Time derivative of the state: M(θ) θ̈ = (0, τ) - Coriolis - gravity, solved by Cramer's rule.

        The terms are those of Sutton & Barto (1998, section 11.3).
        """
        theta_1, theta_2, theta_1_dot, theta_2_dot = y
        coupling = self.mass_2 * self.length_1 * self.centre_2
        m22 = self.mass_2 * self.centre_2**2 + self.inertia_2
        m12 = m22 + coupling * jnp.cos(theta_2)
        lower = self.mass_1 * self.centre_1**2 + self.inertia_1 + self.mass_2 * self.length_1**2
        m11 = lower + m22 + 2 * coupling * jnp.cos(theta_2)
        swirl = coupling * jnp.sin(theta_2)
        weight_2 = self.gravity * self.mass_2 * self.centre_2 * jnp.sin(theta_1 + theta_2)
        upper = self.mass_1 * self.centre_1 + self.mass_2 * self.length_1
        weight_1 = self.gravity * upper * jnp.sin(theta_1) + weight_2
        f1 = swirl * theta_2_dot * (theta_2_dot + 2 * theta_1_dot) - weight_1
        f2 = torque - swirl * theta_1_dot**2 - weight_2
        det = m11 * m22 - m12**2
        return jnp.stack([theta_1_dot, theta_2_dot, (m22 * f1 - m12 * f2) / det, (m11 * f2 - m12 * f1) / det])

    def state_of(self, obs: Array) -> AcrobotState:
        """The state that an observation [6] shows."""
        return AcrobotState(jnp.arctan2(obs[1], obs[0]), jnp.arctan2(obs[3], obs[2]), obs[4], obs[5])

    def render(self, state: AcrobotState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]."""
        l1, l2, bar = float(self.length_1), float(self.length_2), float(self.goal_height)
        reach = 1.1 * (l1 + l2)
        canvas = Canvas(x=(-reach, reach), y=(-reach, reach))
        a, b = float(state.theta_1), float(state.theta_1 + state.theta_2)
        elbow = (l1 * np.sin(a), -l1 * np.cos(a))
        tip = (elbow[0] + l2 * np.sin(b), elbow[1] - l2 * np.cos(b))
        canvas.line((-reach, bar), (reach, bar), "#9aa3ad", 0.02 * reach)
        canvas.line((0.0, 0.0), elbow, "#2b3a55", 0.09 * reach)
        canvas.line(elbow, tip, "#d9822b", 0.07 * reach)
        canvas.circle((0.0, 0.0), 0.028 * reach, "#ffffff")
        canvas.circle(elbow, 0.028 * reach, "#f3c98b")
        return canvas.frame()


def _observe(state: AcrobotState) -> Array:
    one, two = state.theta_1, state.theta_2
    return jnp.stack([jnp.cos(one), jnp.sin(one), jnp.cos(two), jnp.sin(two), state.theta_1_dot, state.theta_2_dot])


def _wrap(angle: Array) -> Array:
    return angle - 2 * np.pi * jnp.round(angle / (2 * np.pi))
