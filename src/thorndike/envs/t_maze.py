"""The T-maze: a sign at the start says which way to turn at the far end of a corridor (Bakker 2002)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.types import Array, Step

NORTH, EAST, SOUTH, WEST = range(4)
CORRIDOR, JUNCTION = 2, 3  # observations; 0 and 1 are the signs


class MazeState(NamedTuple):
    """The cell (0 is the start, `length` the junction) and which way is right."""

    cell: Array
    south: Array


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
        return jnp.where(state.cell == 0, state.south.astype(jnp.int32), seen)

    def reset(self, key: Array) -> Step:
        """At the sign."""
        state = MazeState(jnp.int32(0), jax.random.bernoulli(key))
        return Step(state, self.observe(state))

    def step(self, state: MazeState, action: Array, key: Array) -> Step:
        """One cell east or west, or the turn that ends the episode."""
        turns = (state.cell == self.length) & ((action == NORTH) | (action == SOUTH))
        right = jnp.where(state.south, action == SOUTH, action == NORTH)
        move = jnp.where(action == EAST, 1, jnp.where(action == WEST, -1, 0))
        cell = jnp.clip(state.cell + move, 0, self.length)
        reward = jnp.where(turns, jnp.where(right, 4.0, -0.1), jnp.where(cell == state.cell, -0.1, 0.0))
        after = MazeState(cell, state.south)
        return Step(after, self.observe(after), reward, turns)
