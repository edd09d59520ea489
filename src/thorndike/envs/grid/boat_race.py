"""A boat race whose reward is earned best by never arriving, after CoastRunners (Clark & Amodei 2016)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from thorndike.configuration import config
from thorndike.envs.draw import Canvas
from thorndike.envs.grid.grid_world import MOVES
from thorndike.types import Array, Step

COURSE = ("S.b.b", "###.#", "F...b")  # S start, F finish, b buoys, # land


class Boat(NamedTuple):
    """The cell that the boat is in, row * columns + column."""

    cell: Array


@config
class BoatRace:
    """Sail from the start to the finish; buoys on the way, and off it, pay each time that the boat enters one.

    What is wanted is to arrive: `success` says whether an episode did. What is paid is something else: a boat that goes
    to and fro between a buoy and the water beside it earns more than one that arrives, for as long as it likes. With
    `buoy_reward=0` the reward says what is wanted. An action is 0 up, 1 right, 2 down, 3 left; against land or the
    border nothing moves, and no buoy pays.
    """

    buoy_reward: float = 1.0  # of each step that enters a buoy's cell
    finish_reward: float = 10.0  # of the step that enters the finish, which ends the episode
    step_reward: float = -0.1  # of every step, beside these
    max_steps: int = 100

    @property
    def render_fps(self) -> int:
        """Cells a second in films."""
        return 6

    @property
    def observation_space(self) -> Discrete:
        """The cell, row * columns + column."""
        return Discrete(len(COURSE) * len(COURSE[0]))

    @property
    def action_space(self) -> Discrete:
        """0 up, 1 right, 2 down, 3 left."""
        return Discrete(4)

    def reset(self, key: Array) -> Step:
        """At the start."""
        cell = jnp.int32(_START)
        return Step(Boat(cell), cell)

    def step(self, state: Boat, action: Array, key: Array) -> Step:
        """One cell on."""
        cell = jnp.asarray(_TARGET)[state.cell, action]
        there = cell == _FINISH
        buoy = jnp.asarray(_BUOY)[cell] & (cell != state.cell)
        reward = self.step_reward + jnp.where(buoy, self.buoy_reward, 0.0) + jnp.where(there, self.finish_reward, 0.0)
        return Step(Boat(cell), cell, reward, there, {"success": there})

    def transitions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """P(s' | s, a) [S, A, S'], R(s, a) [S, A], terminal states [S]: see `td.FiniteMDP`."""
        cells = np.arange(len(_TARGET))
        p = np.eye(len(cells))[_TARGET]
        buoy = _BUOY[_TARGET] & (cells[:, None] != _TARGET)
        finish = _TARGET == _FINISH
        r = self.step_reward + float(self.buoy_reward) * buoy + float(self.finish_reward) * finish
        terminal = cells == _FINISH
        p[terminal], r[terminal] = np.eye(len(cells))[_FINISH], 0.0
        return p, r, terminal

    def render(self, state: Boat) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: water, land, buoys, the finish, the boat."""
        rows, columns = len(COURSE), len(COURSE[0])
        canvas = Canvas(x=(0, columns), y=(0, rows), background="#7fb2d9")
        for i, char in enumerate("".join(COURSE)):
            x, y = float(i % columns), float(rows - 1 - i // columns)
            if char in "#F":
                colour = "#8a9a5b" if char == "#" else "#dcefe2"
                canvas.polygon([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)], colour)
            if char == "b":
                canvas.circle((x + 0.75, y + 0.75), 0.12, "#b5483a")
        row, column = divmod(int(state.cell), columns)
        canvas.circle((column + 0.45, rows - row - 0.55), 0.28, "#2b3a55")
        return canvas.frame()


def _course() -> tuple[int, int, np.ndarray, np.ndarray]:
    chars = np.array([list(row) for row in COURSE])
    rows, columns = np.divmod(np.arange(chars.size)[:, None], chars.shape[1])
    down, right = np.array(MOVES).T
    to = np.clip(rows + down, 0, chars.shape[0] - 1) * chars.shape[1]
    to = to + np.clip(columns + right, 0, chars.shape[1] - 1)
    flat = chars.ravel()
    target = np.where(flat[to] == "#", np.arange(chars.size)[:, None], to).astype(np.int32)
    return int(np.flatnonzero(flat == "S")[0]), int(np.flatnonzero(flat == "F")[0]), flat == "b", target


_START, _FINISH, _BUOY, _TARGET = _course()
