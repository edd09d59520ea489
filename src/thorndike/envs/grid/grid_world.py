"""Grid worlds from text: walls, cliffs, goals and slippery floors, with their exact model.

Among them the cliff of Sutton & Barto (2018, example 6.6) and the rooms of Sutton, Precup & Singh (1999).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (row, column) of up, right, down, left


class GridState(NamedTuple):
    """The cell that the agent is in, row * columns + column."""

    cell: Array


class Layout(NamedTuple):
    """A map as arrays over its cells S, in reading order."""

    rows: int
    columns: int
    starts: np.ndarray  # where episodes may begin            [n]
    goal: np.ndarray  # bool                                  [S]
    cliff: np.ndarray  # bool                                 [S]
    wall: np.ndarray  # bool                                  [S]
    target: np.ndarray  # where a move leads, cliffs included [S, 4]


@config
class GridWorld:
    """Walk to a goal. An action is 0 up, 1 right, 2 down, 3 left; against a wall or the border nothing moves.

    A map is rows of text: `S` start (several: one at random; none: any free cell), `G` goal, `#` wall, `C`
    cliff, `.` or a space free. A goal ends the episode; a cliff sends back to a start, or ends it too.
    """

    map: tuple[str, ...] = ("S....", ".....", ".....", ".....", "....G")
    step_reward: float = -1.0
    goal_reward: float = 10.0  # of the step that enters a goal, in the place of step_reward
    cliff_reward: float = -100.0  # of the step that enters a cliff, in the place of step_reward
    cliff_ends: bool = False  # whether a cliff terminates the episode
    slip: float = 0.0  # probability that one of the four actions, uniformly random, replaces the chosen one
    max_steps: int = 200

    def check(self) -> None:
        """Raise `ConfigError` for a map that makes no grid, or an impossible `slip`."""
        _ = self.layout
        slip = np.asarray(self.slip)
        require(bool(((slip >= 0) & (slip <= 1)).all()), f"GridWorld.slip is a probability, got {self.slip!r}")

    @property
    def render_fps(self) -> int:
        """Cells a second in films."""
        return 4

    @property
    def layout(self) -> Layout:
        """The map as arrays; raises `ConfigError` if it is not one."""
        rows = self.map
        require(
            isinstance(rows, tuple) and all(isinstance(row, str) for row in rows),
            f"GridWorld.map should be a tuple of text rows, got {rows!r}",
        )
        return _layout(rows)

    @property
    def observation_space(self) -> Discrete:
        """The cell, row * columns + column."""
        return Discrete(self.layout.rows * self.layout.columns)

    @property
    def action_space(self) -> Discrete:
        """0 up, 1 right, 2 down, 3 left."""
        return Discrete(4)

    def reset(self, key: Array) -> Step:
        """On a start, uniformly chosen."""
        state = GridState(self._start(jax.random.uniform(key)))
        return Step(state, state.cell)

    def step(self, state: GridState, action: Array, key: Array) -> Step:
        """Slip or not, move, and fall or arrive."""
        layout = self.layout
        slip, direction, start = jax.random.uniform(key, (3,))  # one draw: it is most of the cost of a step
        move = jnp.where(slip < self.slip, (4 * direction).astype(int), action)
        cell = jnp.asarray(layout.target)[state.cell, move]
        arrived, fell = jnp.asarray(layout.goal)[cell], jnp.asarray(layout.cliff)[cell]
        reward = jnp.where(fell, self.cliff_reward, jnp.where(arrived, self.goal_reward, self.step_reward))
        if self.cliff_ends:
            terminated = arrived | fell
        else:
            terminated, cell = arrived, jnp.where(fell, self._start(start), cell)
        return Step(GridState(cell), cell, reward.astype(jnp.float32), terminated)

    def _start(self, u: Array) -> Array:
        """The start that a number in [0, 1) picks."""
        starts = jnp.asarray(self.layout.starts)
        return starts[(len(starts) * u).astype(int)]

    def transitions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The exact model: P [S, A, S'], expected reward R [S, A], terminal [S]; see `thorndike.types.FiniteMDP`.

        Terminal cells, and those where nobody can stay (walls; cliffs that send back), lead to themselves
        with reward 0.
        """
        layout, slip = self.layout, float(self.slip)
        cells = len(layout.goal)
        landing = np.eye(cells)
        terminal = layout.goal.copy()
        if self.cliff_ends:
            terminal |= layout.cliff
        else:
            landing[layout.cliff] = np.bincount(layout.starts, minlength=cells) / len(layout.starts)
        entering = np.full(cells, float(self.step_reward))
        entering[layout.goal], entering[layout.cliff] = float(self.goal_reward), float(self.cliff_reward)
        moves = (1 - slip) * np.eye(4) + slip / 4  # [chosen, made]
        probability = np.einsum("am,smt->sat", moves, landing[layout.target])
        reward = entering[layout.target] @ moves.T
        still = layout.goal | layout.cliff | layout.wall
        probability[still], reward[still] = np.eye(cells)[still][:, None], 0.0
        return probability, reward, terminal

    def picture(self, q: np.ndarray, path: str | Path | None = None, limits: tuple[float, float] | None = None) -> Any:
        """Values and greedy actions of a table q [S, A] as a figure; see `thorndike.envs.grid.picture.draw_values`."""
        from thorndike.envs.grid.picture import draw_values

        return draw_values(self, q, path, limits)

    def render(self, state: GridState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]."""
        layout = self.layout
        rows, columns = layout.rows, layout.columns
        canvas = Canvas(x=(0.0, columns), y=(0.0, rows), width=int(np.clip(64 * columns, 128, 768)))
        for cell in range(rows * columns):
            x, y = float(cell % columns), float(rows - 1 - cell // columns)
            char = self.map[cell // columns][cell % columns]
            colour = {"#": "#2b3a55", "C": "#b5483a", "G": "#dcefe2", "S": "#e3e8f0"}.get(char, "#ffffff")
            canvas.polygon([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)], colour)
            if char == "C":
                for k in (0.2, 0.5, 0.8):
                    canvas.line((x + k - 0.12, y + 0.2), (x + k + 0.12, y + 0.8), "#8f342a", 0.06)
            if char == "G":
                canvas.line((x + 0.35, y + 0.18), (x + 0.35, y + 0.82), "#2b3a55", 0.05)
                canvas.polygon([(x + 0.37, y + 0.82), (x + 0.75, y + 0.66), (x + 0.37, y + 0.5)], "#3f9d5d")
        for k in range(rows + 1):
            canvas.line((0.0, k), (columns, k), "#c3cad3", 0.025)
        for k in range(columns + 1):
            canvas.line((k, 0.0), (k, rows), "#c3cad3", 0.025)
        row, column = divmod(int(state.cell), columns)
        canvas.circle((column + 0.5, rows - row - 0.5), 0.28, "#d9822b")
        canvas.circle((column + 0.5, rows - row - 0.5), 0.12, "#f3c98b")
        return canvas.frame()


@functools.lru_cache(maxsize=64)
def _layout(rows: tuple[str, ...]) -> Layout:
    require(bool(rows) and bool(rows[0]), "GridWorld.map is empty: give at least one row of text")
    columns = len(rows[0])
    for i, row in enumerate(rows):
        require(
            len(row) == columns,
            f"GridWorld.map is ragged: row 0 has {columns} cells, row {i} has {len(row)} ({row!r})",
        )
    chars = np.array([list(row) for row in rows]).ravel()
    unknown = sorted(set(chars.tolist()) - set("SG#C. "))
    require(not unknown, f"GridWorld.map has unknown characters {unknown}: use S, G, #, C, '.' or a space")
    goal, cliff, wall, free = chars == "G", chars == "C", chars == "#", (chars == ".") | (chars == " ")
    require(bool(goal.any()), "GridWorld.map has no goal: mark one cell with G")
    marked = np.flatnonzero(chars == "S")
    starts = marked if len(marked) else np.flatnonzero(free)
    require(len(starts) > 0, "GridWorld.map has nowhere to start: mark a cell with S or leave one free")
    rows_at, columns_at = np.divmod(np.arange(len(chars))[:, None], columns)
    down, right = np.array(MOVES).T
    to = np.clip(rows_at + down, 0, len(rows) - 1) * columns + np.clip(columns_at + right, 0, columns - 1)
    target = np.where(wall[to], np.arange(len(chars))[:, None], to)
    return Layout(len(rows), columns, starts.astype(np.int32), goal, cliff, wall, target.astype(np.int32))


def cliff_walking() -> GridWorld:
    """Sutton & Barto's cliff (2018, example 6.6), step for step Gymnasium's CliffWalking-v1.

    Gymnasium sets no time limit; the 500 steps here are ours.
    """
    rows = ("............", "............", "............", "SCCCCCCCCCCG")
    return GridWorld(map=rows, goal_reward=-1.0, max_steps=500)


def four_rooms() -> GridWorld:
    """The four rooms of Sutton, Precup & Singh (1999): any start, the goal in the east hallway.

    An action works with probability 2/3 and becomes each of the other three with 1/9 (hence `slip` = 4/9);
    the only reward is 1 at the goal. The time limit is ours.
    """
    rows = (
        "#############",
        "#     #     #",
        "#     #     #",
        "#           #",
        "#     #     #",
        "#     #     #",
        "## ####     #",
        "#     ###G###",
        "#     #     #",
        "#     #     #",
        "#           #",
        "#     #     #",
        "#############",
    )
    return GridWorld(map=rows, step_reward=0.0, goal_reward=1.0, slip=4 / 9, max_steps=500)


def dyna_maze(scale: int = 1) -> GridWorld:
    """Dyna's maze (Sutton & Barto 2018, figure 8.2): reward 1 at the goal, 14 steps away; the time limit is ours.

    With a `scale` each cell is a square of so many cells a side, of which the start has the upper left one: the goal is
    then 27 steps away with 2, 40 with 3, 66 with 5.
    """
    require(isinstance(scale, int) and scale > 0, f"dyna_maze: scale is a positive whole number, got {scale!r}")
    rows = (".......#G", "..#....#.", "..#....#.", "..#......", ".....#...", ".........")
    large = ["".join(char * scale for char in row) for row in rows for _ in range(scale)]
    large[2 * scale] = "S" + large[2 * scale][1:]
    return GridWorld(map=tuple(large), step_reward=0.0, goal_reward=1.0, max_steps=3_000 * scale * scale)


def large_dyna_maze() -> GridWorld:
    """Dyna's maze with 3 x 3 cells for each of its own: the goal is 40 steps away."""
    return dyna_maze(3)
