"""MountainCar-v0: a car too weak for its hill (Moore 1990; Sutton 1996), step for step Gymnasium's."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from thorndike.configuration import config
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step

MIN_POSITION, MAX_POSITION = -1.2, 0.6
MAX_SPEED = 0.07  # position a step


class CarState(NamedTuple):
    """Position along the track (the valley's bottom is at -π/6) and velocity (position a step)."""

    position: Array
    velocity: Array


@config
class MountainCar:
    """Accelerate left, right or not at all; reward -1 a step until the car is at the flag."""

    force: float = 0.001  # position / step²
    gravity: float = 0.0025  # position / step²
    goal_position: float = 0.5
    goal_velocity: float = 0.0  # at least this fast at the flag, position / step
    max_steps: int = 200

    @property
    def observation_space(self) -> Box:
        """Position and velocity."""
        return car_space()

    @property
    def action_space(self) -> Discrete:
        """0 accelerates left, 1 not at all, 2 right."""
        return Discrete(3)

    def reset(self, key: Array) -> Step:
        """At rest, somewhere in [-0.6, -0.4]."""
        return car_reset(key)

    def step(self, state: CarState, action: Array, key: Array) -> Step:
        """One step of v ← v + force - gravity cos 3x, x ← x + v."""
        state = drive(state, (action - 1) * self.force, self.gravity)
        there = (state.position >= self.goal_position) & (state.velocity >= self.goal_velocity)
        return Step(state, jnp.stack(state), jnp.float32(-1.0), there)

    def state_of(self, obs: Array) -> CarState:
        """The state that an observation [2] shows."""
        return CarState(*obs)

    def render(self, state: CarState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]."""
        return draw_car(state, float(self.goal_position))


def car_space() -> Box:
    """The observations of both mountain cars."""
    low, high = np.array([MIN_POSITION, -MAX_SPEED]), np.array([MAX_POSITION, MAX_SPEED])
    return Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


def car_reset(key: Array) -> Step:
    """The first step of both mountain cars."""
    state = CarState(jax.random.uniform(key, minval=-0.6, maxval=-0.4), jnp.float32(0.0))
    return Step(state, jnp.stack(state))


def drive(state: CarState, push: Array, gravity: float) -> CarState:
    """The car a step later; the left end of the track is a wall that stops it."""
    velocity = jnp.clip(state.velocity + push - gravity * jnp.cos(3 * state.position), -MAX_SPEED, MAX_SPEED)
    position = jnp.clip(state.position + velocity, MIN_POSITION, MAX_POSITION)
    return CarState(position, jnp.where(position <= MIN_POSITION, jnp.maximum(velocity, 0.0), velocity))


def draw_car(state: CarState, goal: float) -> np.ndarray:
    """The car on its hill and the flag at `goal`, uint8 [height, width, 3]."""

    def height(x):
        return 0.45 * np.sin(3 * x) + 0.55

    canvas = Canvas(x=(MIN_POSITION, MAX_POSITION), y=(0.0, 1.26), background="#f4f7fb")
    xs = np.linspace(MIN_POSITION, MAX_POSITION, 121)
    hill = [(float(x), float(height(x))) for x in xs]
    canvas.polygon([(MIN_POSITION, 0.0), *hill, (MAX_POSITION, 0.0)], "#cfd6de")
    for a, b in pairwise(hill):
        canvas.line(a, b, "#9aa3ad", 0.012)
    foot = float(height(goal))
    canvas.line((goal, foot), (goal, foot + 0.2), "#2b3a55", 0.008)
    canvas.polygon([(goal, foot + 0.2), (goal + 0.08, foot + 0.165), (goal, foot + 0.13)], "#3f9d5d")
    x, slope = float(state.position), float(np.arctan(1.35 * np.cos(3 * float(state.position))))

    def place(along: float, above: float) -> tuple[float, float]:
        sin, cos = np.sin(slope), np.cos(slope)
        return float(x + along * cos - above * sin), float(height(x) + along * sin + above * cos)

    body = [
        (-0.08, 0.03),
        (0.08, 0.03),
        (0.08, 0.065),
        (0.04, 0.07),
        (0.02, 0.1),
        (-0.05, 0.1),
        (-0.08, 0.07),
    ]
    canvas.polygon([place(*corner) for corner in body], "#d9822b")
    for wheel in (-0.048, 0.048):
        canvas.circle(place(wheel, 0.026), 0.026, "#2b3a55")
        canvas.circle(place(wheel, 0.026), 0.01, "#f3c98b")
    return canvas.frame()
