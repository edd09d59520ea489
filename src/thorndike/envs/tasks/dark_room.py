"""The dark room (Laskin et al. 2022, appendix): a goal that cannot be seen."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete, MultiDiscrete

from thorndike.configuration import config, require
from thorndike.envs.tasks.family import Placed, drawn
from thorndike.types import Array, Step

MOVES = jnp.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])  # stay, up, down, left, right


@config
class DarkRoom:
    """A square room: 1 for every step at the goal, which is not shown; a task is where it is.

    The agent begins in the middle and sees only where it stands. The first episode of a trial is a search; in those
    after it the way is known.
    """

    size: int = 9
    max_steps: int = 20

    def check(self) -> None:
        """There is a room."""
        require(self.size > 1, f"DarkRoom.size must be 2 or more, got {self.size}")

    @property
    def observation_space(self) -> MultiDiscrete:
        """Row and column."""
        return MultiDiscrete([self.size, self.size])

    @property
    def action_space(self) -> Discrete:
        """0 stay, 1 up, 2 down, 3 left, 4 right."""
        return Discrete(5)

    def task(self, key: Array) -> Array:
        """The goal's row and column [2]."""
        return jax.random.randint(key, (2,), 0, self.size)

    def begin(self, task: Array, key: Array) -> Step:
        """In the middle."""
        place = jnp.full(2, self.size // 2, jnp.int32)
        return Step(Placed(task, place), place)

    def task_of(self, state: Placed) -> Array:
        """The goal."""
        return state.task

    def reset(self, key: Array) -> Step:
        """In the middle of a room with another goal."""
        return drawn(self, key)

    def step(self, state: Placed, action: Array, key: Array) -> Step:
        """One step; walls hold the agent back."""
        place = jnp.clip(state.place + MOVES[action], 0, self.size - 1)
        return Step(Placed(state.task, place), place, (place == state.task).all().astype(jnp.float32))
