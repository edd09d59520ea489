"""Mazes that change while an agent learns: a way that is blocked, and a shortcut that opens.

Both are of Sutton & Barto (2018, examples 8.2 and 8.3): a model that was right is no longer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.grid.grid_world import GridState, GridWorld
from thorndike.types import Array, Step

OPEN_RIGHT = ("........G", ".........", ".........", "########.", ".........", "...S.....")
OPEN_LEFT = ("........G", ".........", ".........", ".########", ".........", "...S.....")
OPEN_BOTH = ("........G", ".........", ".........", ".#######.", ".........", "...S.....")


class MazeState(NamedTuple):
    """Where the agent is, and how many steps it has made in all its episodes."""

    cell: Array
    time: Array


@config
class ChangingMaze:
    """Walk to a goal in a maze that is another one after `change` steps, counted over all episodes.

    Actions, rewards and the characters of the maps are `GridWorld`'s, without cliffs. Evaluations play in the second
    maze alone.
    """

    before: tuple[str, ...] = OPEN_RIGHT
    after: tuple[str, ...] = OPEN_LEFT
    change: int = 1_000  # steps in the first maze
    step_reward: float = 0.0
    goal_reward: float = 1.0  # of the step that enters a goal, in the place of step_reward
    max_steps: int = 3_000

    def check(self) -> None:
        """Two maps of one size and without cliffs; raises `ConfigError`."""
        first, second = self.mazes
        require(
            (first.layout.rows, first.layout.columns) == (second.layout.rows, second.layout.columns),
            "ChangingMaze.before and ChangingMaze.after must have as many rows, and rows as long",
        )
        require(not (first.layout.cliff | second.layout.cliff).any(), "ChangingMaze has no cliffs: leave out C")
        require(self.change >= 0, f"ChangingMaze.change must not be negative, got {self.change}")

    @property
    def mazes(self) -> tuple[GridWorld, GridWorld]:
        """The first maze and the second."""
        rewards: Any = {"step_reward": self.step_reward, "goal_reward": self.goal_reward, "max_steps": self.max_steps}
        return GridWorld(map=self.before, **rewards), GridWorld(map=self.after, **rewards)

    @property
    def evaluation(self) -> GridWorld:
        """Where agents are evaluated: in the maze that there is in the end."""
        return self.mazes[1]

    @property
    def render_fps(self) -> int:
        """Cells a second in films."""
        return 4

    @property
    def observation_space(self) -> Discrete:
        """The cell, row * columns + column."""
        return self.mazes[0].observation_space

    @property
    def action_space(self) -> Discrete:
        """0 up, 1 right, 2 down, 3 left."""
        return Discrete(4)

    def reset(self, key: Array) -> Step:
        """On a start of the first maze, at time 0."""
        return self._begin(jnp.int32(0), key)

    def again(self, state: MazeState, key: Array) -> Step:
        """On a start of the maze that there is by now."""
        return self._begin(state.time, key)

    def _begin(self, time: Array, key: Array) -> Step:
        first, second = (maze.reset(key).obs for maze in self.mazes)
        cell = jnp.where(time < self.change, first, second)
        return Step(MazeState(cell, time), cell)

    def step(self, state: MazeState, action: Array, key: Array) -> Step:
        """A step in the maze that there is now."""
        steps = [maze.step(GridState(state.cell), action, key) for maze in self.mazes]
        step = jax.tree.map(lambda x, y: jnp.where(state.time < self.change, x, y), *steps)
        return step._replace(state=MazeState(step.obs, state.time + 1))

    def picture(self, q: np.ndarray, path: str | Path | None = None, limits: tuple[float, float] | None = None) -> Any:
        """Values and greedy actions of a table q [S, A] in the second maze, as a figure."""
        return self.mazes[1].picture(q, path, limits)

    def render(self, state: MazeState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]."""
        return self.mazes[int(state.time) >= self.change].render(GridState(state.cell))


def blocking_maze() -> ChangingMaze:
    """Example 8.2: after 1,000 steps the short way, on the right, is blocked, and a longer one opens on the left."""
    return ChangingMaze()


def shortcut_maze() -> ChangingMaze:
    """Example 8.3: after 3,000 steps a shorter way opens on the right, and the old one, on the left, stays open."""
    return ChangingMaze(before=OPEN_LEFT, after=OPEN_BOTH, change=3_000)
