"""Towns from text: crossings, the streets between them, and how far each crossing is from each."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from thorndike.errors import require
from thorndike.planning.routes import MOVES, distances

BACK, LEFT, STRAIGHT, RIGHT = range(4)  # turns
HEADING = (2, 3, 0, 1)  # what a turn adds to a heading, modulo 4; headings are numbered as `MOVES`, clockwise


class Town(NamedTuple):
    """A map as arrays over its C crossings, in reading order."""

    place: np.ndarray  # row and column of each       [C, 2]
    exits: np.ndarray  # the crossing that a heading leads to, -1 where there is no street [C, 4]
    far: np.ndarray  # streets from one to another     [C from, C to]


@functools.lru_cache(maxsize=16)
def town(rows: tuple[str, ...]) -> Town:
    """A map of which each character but `#` is a crossing; neighbours are joined by a street.

    Raises:
        ConfigError: it is no map, or one crossing cannot be reached from another.
    """
    shape = isinstance(rows, tuple) and len(rows) > 0 and all(isinstance(row, str) for row in rows)
    require(shape and len({len(row) for row in rows}) == 1, f"a town's map is rows of text of one length, got {rows!r}")
    grid = np.array([[np.inf if char == "#" else 1.0 for char in row] for row in rows])
    place = np.argwhere(np.isfinite(grid))
    number = {(int(r), int(c)): i for i, (r, c) in enumerate(place)}
    exits = np.array([[number.get((int(r) + down, int(c) + right), -1) for down, right in MOVES] for r, c in place])
    require(len(place) > 1, f"a town needs two crossings or more, got {rows!r}")
    far = np.stack([distances(grid, cell)[tuple(place.T)] for cell in number], 1)
    require(bool(np.isfinite(far).all()), f"some crossings of this map cannot be reached from others: {rows!r}")
    return Town(place, exits.astype(np.int32), far.astype(np.float32))
