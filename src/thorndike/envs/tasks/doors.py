"""Doors: which one is right is known only at the end of a corridor behind it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.tasks.family import Placed, drawn
from thorndike.types import Array, Step


@config
class Doors:
    """Choose a door, walk two steps of corridor, and get 1 if it was the right one; a task is which door that is.

    The first action of an episode is judged when it is long past, so an agent has to remember it, and what came of it,
    in the episodes after. With 4 doors and 5 episodes, `td.Trials(env=td.Doors(), episodes=5)`, the best return that
    can be expected is 3.5; without memory of earlier episodes it is 1.25.
    """

    doors: int = 4
    corridor: int = 2  # steps between the door and the reward
    max_steps: int = 100

    def check(self) -> None:
        """Something to choose from, and steps within the time limit."""
        require(self.doors > 1, f"Doors.doors must be 2 or more, got {self.doors}")
        require(
            0 <= self.corridor < self.max_steps, "Doors.corridor must not be negative, and be shorter than max_steps"
        )

    @property
    def observation_space(self) -> Discrete:
        """Steps into the corridor; 0 is before the doors."""
        return Discrete(self.corridor + 1)

    @property
    def action_space(self) -> Discrete:
        """The door; in the corridor it does not matter."""
        return Discrete(self.doors)

    def task(self, key: Array) -> Array:
        """The right door."""
        return jax.random.randint(key, (), 0, self.doors)

    def begin(self, task: Array, key: Array) -> Step:
        """Before the doors."""
        return Step(Placed(task, jnp.zeros(2, jnp.int32)), jnp.int32(0))

    def task_of(self, state: Placed) -> Array:
        """The right door."""
        return state.task

    def reset(self, key: Array) -> Step:
        """Before the doors, of which another one may be right."""
        return drawn(self, key)

    def step(self, state: Placed, action: Array, key: Array) -> Step:
        """Through a door, or a step on; `place` is how far the agent is, and the door that it took."""
        far, door = state.place
        door = jnp.where(far == 0, action, door)
        over = far == self.corridor
        reward = jnp.where(over & (door == state.task), 1.0, 0.0)
        place = jnp.stack([far + 1, door]).astype(jnp.int32)
        return Step(Placed(state.task, place), jnp.minimum(far + 1, self.corridor), reward, over)
