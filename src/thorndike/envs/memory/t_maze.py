"""The T-maze: a sign at the start says which way to turn at the far end of a corridor (Bakker 2002)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step

NORTH, EAST, SOUTH, WEST = range(4)
CORRIDOR, JUNCTION = 2, 3  # observations; 0 and 1 are the signs


class MazeState(NamedTuple):
    """The cell (0 is the start, `length` the junction) and the sign."""

    cell: Array
    south: Array  # 1: south is the right turn; 0: north


@config
class TMaze:
    """4 for the right turn at the junction, -0.1 for the wrong one and for every step into a wall.

    The best return is 4; without memory the turn is a guess, and 1.95 the most that can be expected.
    """

    length: int = 10  # cells between the start and the junction
    max_steps: int = 100

    def check(self) -> None:
        """There is a corridor."""
        require(self.length > 0, f"TMaze.length must be positive, got {self.length}")

    @property
    def render_fps(self) -> int:
        """Cells a second in films."""
        return 4

    @property
    def observation_space(self) -> Discrete:
        """0: the sign says north; 1: it says south; 2: corridor; 3: junction."""
        return Discrete(4)

    @property
    def action_space(self) -> Discrete:
        """North, east, south, west."""
        return Discrete(4)

    def observe(self, state: MazeState) -> Array:
        """What is seen from a cell."""
        seen = jnp.where(state.cell == self.length, JUNCTION, CORRIDOR)
        return jnp.where(state.cell == 0, state.south, seen)

    def reset(self, key: Array) -> Step:
        """At the sign."""
        state = MazeState(jnp.int32(0), jax.random.randint(key, (), 0, 2))
        return Step(state, self.observe(state))

    def step(self, state: MazeState, action: Array, key: Array) -> Step:
        """One cell east or west, or the turn that ends the episode."""
        turns = (state.cell == self.length) & ((action == NORTH) | (action == SOUTH))
        right = jnp.where(state.south == 1, action == SOUTH, action == NORTH)
        move = jnp.where(action == EAST, 1, jnp.where(action == WEST, -1, 0))
        cell = jnp.clip(state.cell + move, 0, self.length)
        reward = jnp.where(turns, jnp.where(right, 4.0, -0.1), jnp.where(cell == state.cell, -0.1, 0.0))
        after = MazeState(cell, state.south)
        return Step(after, self.observe(after), reward, turns)

    def render(self, state: MazeState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: the corridor, the right turn in green, the agent."""
        n = self.length
        canvas = Canvas(x=(-1, n + 1), y=(-2, 2))
        canvas.line((0, 0), (n, 0), "#d5dae0", 0.8)
        canvas.line((n, -1.2), (n, 1.2), "#d5dae0", 0.8)
        canvas.circle((n, -1.2 if int(state.south) else 1.2), 0.3, "#4caf50")
        canvas.circle((float(state.cell), 0.0), 0.25, "#2b3a55")
        return canvas.frame()
