"""Shortest ways on grids, in NumPy: distances to a goal from everywhere, and A* from one cell to another.

A grid is an array of what it costs to enter each cell, [rows, columns], infinite for walls; moves are those of
`thorndike.envs.grid.grid_world`: up, right, down, left.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from thorndike.errors import require

Cell = tuple[int, int]  # (row, column)
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left


class Route(NamedTuple):
    """A cheapest way."""

    cells: tuple[Cell, ...]  # from the start to the goal, with both; empty where there is none
    cost: float  # of all cells but the start; infinite where there is no way
    expanded: int  # cells whose neighbours were looked at


def a_star(grid: np.ndarray, start: Cell, goal: Cell, heuristic: Callable[[Cell], float] | None = None) -> Route:
    """A cheapest way by A* (Hart, Nilsson & Raphael 1968).

    Args:
        grid: the cost of entering each cell, [rows, columns], not negative.
        start: where it begins.
        goal: where it ends.
        heuristic: what a cell costs to the goal, or less. By default the city block distance times the least cost;
            `lambda cell: 0.0` makes it Dijkstra's algorithm.

    Raises:
        ConfigError: a cost is negative or NaN, or start or goal are outside of the grid.
    """
    grid = _checked(grid, start, goal)
    if heuristic is None:
        least = float(grid.min())
        least = least if np.isfinite(least) else 0.0
        heuristic = lambda cell: least * (abs(cell[0] - goal[0]) + abs(cell[1] - goal[1]))  # noqa: E731
    best, before = {start: 0.0}, {start: start}
    done: set[Cell] = set()
    # Of cells that look as good, the one that is farther from the start is nearer to the goal.
    waiting = [(heuristic(start), 0.0, start)]
    while waiting:
        _, _, cell = heapq.heappop(waiting)
        if cell == goal:
            return Route(_way(before, goal), best[goal], len(done))
        if cell in done:
            continue
        done.add(cell)
        for near in _neighbours(grid, cell):
            cost = best[cell] + float(grid[near])
            if cost < best.get(near, np.inf):
                best[near], before[near] = cost, cell
                done.discard(near)  # a heuristic that is not consistent may have closed it too early
                heapq.heappush(waiting, (cost + heuristic(near), -cost, near))
    return Route((), np.inf, len(done))


def distances(grid: np.ndarray, goal: Cell) -> np.ndarray:
    """What the cheapest way to the goal costs from each cell, [rows, columns], infinite where there is none.

    The cost of entering a cell is in `grid` [rows, columns]; that of the cell where a way begins does not count. A wall
    cannot be entered, but a way may begin in it. Raises `ConfigError` as `a_star` does.
    """
    grid = _checked(grid, goal, goal)
    found, waiting = np.full(grid.shape, np.inf), [(0.0, goal)]
    found[goal] = 0.0
    while waiting:
        far, cell = heapq.heappop(waiting)
        if far > found[cell] or not np.isfinite(grid[cell]):
            continue
        for near in _inside(grid, cell):
            cost = far + float(grid[cell])
            if cost < found[near]:
                found[near] = cost
                heapq.heappush(waiting, (cost, near))
    return found


def _checked(grid: np.ndarray, *cells: Cell) -> np.ndarray:
    grid = np.asarray(grid, float)
    require(grid.ndim == 2 and bool((grid >= 0).all()), "a grid is a matrix of costs that are not negative")
    for cell in cells:
        inside = 0 <= cell[0] < grid.shape[0] and 0 <= cell[1] < grid.shape[1]
        require(inside, f"the cell {cell} is outside of a grid of {grid.shape[0]} x {grid.shape[1]} cells")
    return grid


def _inside(grid: np.ndarray, cell: Cell) -> list[Cell]:
    """The neighbours of a cell that are in the grid."""
    near = [(cell[0] + down, cell[1] + right) for down, right in MOVES]
    return [(r, c) for r, c in near if 0 <= r < grid.shape[0] and 0 <= c < grid.shape[1]]


def _neighbours(grid: np.ndarray, cell: Cell) -> list[Cell]:
    """Those of them that can be entered."""
    return [near for near in _inside(grid, cell) if np.isfinite(grid[near])]


def _way(before: dict[Cell, Cell], goal: Cell) -> tuple[Cell, ...]:
    """The way that led to the goal."""
    cells = [goal]
    while before[cells[-1]] != cells[-1]:
        cells.append(before[cells[-1]])
    return tuple(reversed(cells))
