"""Deep sea (Osband et al. 2018; Osband et al. 2020, "bsuite"): exploration that pays only where it is deep."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step


class Dive(NamedTuple):
    """The cell, row * size + column; size² once the bottom is reached."""

    cell: Array


@config
class DeepSea:
    """Dive for a treasure: each step is a row down, to the left or to the right.

    Going right costs 0.01 / size, and going right in the last cell of the last row pays 1. Only the dive that is right
    all along finds it, one of 2^size; the best return is 0.99. Which of the two actions goes right differs from cell to
    cell, and is drawn once by `seed`.
    """

    size: int = 10  # rows, and columns
    seed: int = 0  # of which action goes right in each cell

    def check(self) -> None:
        """There is a way down."""
        require(0 < self.size <= 200, f"DeepSea.size must lie between 1 and 200, got {self.size}")

    @property
    def max_steps(self) -> int:
        """An episode ends at the bottom."""
        return self.size

    @property
    def render_fps(self) -> int:
        """Rows a second in films."""
        return 4

    @property
    def observation_space(self) -> Discrete:
        """The cell, row * size + column, and size² for the bottom."""
        return Discrete(self.size**2 + 1)

    @property
    def action_space(self) -> Discrete:
        """One goes left, the other right."""
        return Discrete(2)

    def reset(self, key: Array) -> Step:
        """At the top left."""
        return Step(Dive(jnp.int32(0)), jnp.int32(0))

    def step(self, state: Dive, action: Array, key: Array) -> Step:
        """A row down."""
        n = self.size
        row, column = state.cell // n, state.cell % n
        right = action == jnp.asarray(rights(n, self.seed))[jnp.minimum(state.cell, n * n - 1)]
        found = right & (column == n - 1) & (row == n - 1)
        reward = jnp.where(right, -0.01 / n, 0.0) + found
        column, row = jnp.clip(jnp.where(right, column + 1, column - 1), 0, n - 1), row + 1
        cell = jnp.minimum(row * n + column, n * n).astype(jnp.int32)
        return Step(Dive(cell), cell, reward, row >= n, {"success": found})

    def transitions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """P(s' | s, a) [S, A, S'], R(s, a) [S, A], terminal states [S]: see `td.FiniteMDP`."""
        n = self.size
        cells = n * n + 1
        p, r = np.zeros((cells, 2, cells)), np.zeros((cells, 2))
        for cell in range(n * n):
            row, column = divmod(cell, n)
            for action in range(2):
                right = action == rights(n, self.seed)[cell]
                to = min(max(column + (1 if right else -1), 0), n - 1)
                p[cell, action, n * n if row == n - 1 else (row + 1) * n + to] = 1.0
                r[cell, action] = (-0.01 / n + (row == column == n - 1)) if right else 0.0
        p[-1, :, -1] = 1.0
        return p, r, np.arange(cells) == n * n

    def render(self, state: Dive) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: the sea, the treasure, the diver."""
        n = self.size
        canvas = Canvas(x=(0, n), y=(0, n + 1), width=min(480, 40 * n), background="#dceaf5")
        canvas.polygon([(0, 0), (n, 0), (n, n), (0, n)], "#4f86b8")
        canvas.circle((n - 0.5, 0.5), 0.3, "#e8b93c")
        row, column = divmod(int(state.cell), n)
        canvas.circle((min(column, n - 1) + 0.5, max(n - row - 0.5, 0.0)), 0.3, "#d9822b")
        return canvas.frame()


@lru_cache(maxsize=64)
def rights(size: int, seed: int) -> np.ndarray:
    """Which action goes right in each cell, [size²]."""
    return np.random.default_rng(seed).integers(0, 2, size * size).astype(np.int32)
