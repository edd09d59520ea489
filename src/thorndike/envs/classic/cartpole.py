"""CartPole-v1: keep a pole upright on a cart (Barto, Sutton & Anderson 1983), step for step Gymnasium's."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from thorndike.configuration import config, require
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step


class CartPoleState(NamedTuple):
    """Position (m), velocity (m/s), pole angle (rad, 0 is upright) and angular velocity (rad/s)."""

    x: Array
    x_dot: Array
    theta: Array
    theta_dot: Array


@config
class CartPole:
    """Push a cart left or right; reward 1 a step until the pole tilts by 12 degrees or the cart leaves the track."""

    gravity: float = 9.8  # m/s²
    cart_mass: float = 1.0  # kg
    pole_mass: float = 0.1  # kg
    half_length: float = 0.5  # half the pole's length, m
    force: float = 10.0  # N
    dt: float = 0.02  # s, explicit Euler
    velocities: bool = True  # whether they are observed; without them the task needs memory
    max_steps: int = 500

    @property
    def observation_space(self) -> Box:
        """Position, velocity, angle and angular velocity, or two of them; bounds are twice the failure thresholds."""
        high = np.array([4.8, np.inf, 24 * np.pi / 180, np.inf], np.float32)
        high = high if self.velocities else high[[0, 2]]
        return Box(-high, high, dtype=np.float32)

    @property
    def action_space(self) -> Discrete:
        """0 pushes left, 1 pushes right."""
        return Discrete(2)

    def reset(self, key: Array) -> Step:
        """All four quantities uniform in [-0.05, 0.05]."""
        state = CartPoleState(*jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05))
        return Step(state, self.observe(state))

    def step(self, state: CartPoleState, action: Array, key: Array) -> Step:
        """One Euler step of the frictionless cart and pole (Florian 2007, eqs. 23-24)."""
        x, x_dot, theta, theta_dot = state
        total_mass, moment = self.cart_mass + self.pole_mass, self.pole_mass * self.half_length
        force = jnp.where(action == 1, self.force, -self.force)
        sin, cos = jnp.sin(theta), jnp.cos(theta)
        push = (force + moment * theta_dot**2 * sin) / total_mass
        theta_acc = (self.gravity * sin - cos * push) / (
            self.half_length * (4.0 / 3.0 - self.pole_mass * cos**2 / total_mass)
        )
        x_acc = push - moment * theta_acc * cos / total_mass
        state = CartPoleState(
            x + self.dt * x_dot, x_dot + self.dt * x_acc, theta + self.dt * theta_dot, theta_dot + self.dt * theta_acc
        )
        fallen = (jnp.abs(state.x) > 2.4) | (jnp.abs(state.theta) > 12 * np.pi / 180)
        return Step(state, self.observe(state), jnp.float32(1.0), fallen)

    def state_of(self, obs: Array) -> CartPoleState:
        """The state that an observation [4] shows."""
        require(self.velocities, "without velocities an observation of CartPole does not show its state")
        return CartPoleState(*obs)

    def observe(self, state: CartPoleState) -> Array:
        """What is seen of a state, [4] or [2]."""
        return jnp.stack(state if self.velocities else (state.x, state.theta))

    def render(self, state: CartPoleState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]."""
        canvas = Canvas(x=(-2.4, 2.4), y=(-0.6, 1.4))
        x, theta = float(state.x), float(state.theta)
        tip = (x + 2 * self.half_length * np.sin(theta), 2 * self.half_length * np.cos(theta))
        canvas.line((-2.4, -0.15), (2.4, -0.15), "#9aa3ad", 0.02)
        canvas.polygon([(x - 0.25, -0.15), (x + 0.25, -0.15), (x + 0.25, 0.1), (x - 0.25, 0.1)], "#2b3a55")
        canvas.line((x, 0.0), tip, "#d9822b", 0.08)
        canvas.circle((x, 0.0), 0.05, "#f3c98b")
        return canvas.frame()


def without_velocities(**fields: Any) -> CartPole:
    """CartPole of which only the position and the angle are seen: rl-baselines3-zoo's CartPoleNoVel."""
    return CartPole(velocities=False, **fields)
