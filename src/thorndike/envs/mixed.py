"""Mixed action spaces: a Dict or Tuple of choices and numbers, as one vector.

Everything between an algorithm and its environment has actions as arrays; so a nested action is a float32 vector of all
its parts there, and is taken apart in the last moment, before the environment's own `step`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from thorndike.errors import IncompatibleError

EXACT = 2**24  # float32 holds all whole numbers up to here


class Mixed(Space):
    """Actions of a Dict or Tuple space as vectors float32 [D]: its parts one after the other, as JAX orders them, each
    flattened. Choices are counted as their space counts them, from its `start`."""

    def __init__(self, space: Space):
        """Raises `IncompatibleError` for parts that are no Box, Discrete, MultiDiscrete or MultiBinary, for no parts at
        all, and for whole numbers that float32 does not hold."""
        self.space, self.parts = space, parts_of(space)
        if not self.parts:
            raise IncompatibleError(f"the action space {space} has no parts")
        sizes = [math.prod(part.shape or ()) for part in self.parts]
        ends = np.cumsum(sizes)
        self.slices = tuple(slice(int(end - size), int(end)) for size, end in zip(sizes, ends))
        bounds = [_bounds(part) for part in self.parts]
        low, high = (np.concatenate(side) for side in zip(*bounds))
        whole = np.repeat([not _real(part) for part in self.parts], sizes)
        limits = np.abs(np.stack([low, high])[:, whole])
        if limits.size and limits.max() > EXACT:
            raise IncompatibleError(f"{space} has whole numbers beyond {EXACT:,}: float32 does not hold them")
        with np.errstate(over="ignore"):
            self.low, self.high = low.astype(np.float32), high.astype(np.float32)
        self.whole = whole
        self.start = np.concatenate([_start(part, size) for part, size in zip(self.parts, sizes)])
        super().__init__((int(ends[-1]),), np.float32)

    @property
    def is_np_flattenable(self) -> bool:
        """It is flat."""
        return True

    @property
    def choices(self) -> np.ndarray:
        """The indices of what masks are about: of Discrete, MultiDiscrete and MultiBinary parts."""
        flags = [np.full(s.stop - s.start, not isinstance(p, Box)) for p, s in zip(self.parts, self.slices)]
        return np.flatnonzero(np.concatenate(flags))

    def nested(self, vector: Any) -> Any:
        """The action of the Dict or Tuple that a vector [..., D] of NumPy or JAX stands for, leaves [..., *shape]."""
        values = []
        for part, where in zip(self.parts, self.slices):
            value = vector[..., where].reshape((*vector.shape[:-1], *(part.shape or ())))
            dtype = np.dtype(part.dtype)
            narrow = {np.dtype("int64"): np.dtype("int32"), np.dtype("float64"): np.dtype("float32")}
            value = value.astype(dtype if isinstance(vector, np.ndarray) else narrow.get(dtype, dtype))
            if isinstance(vector, np.ndarray) and dtype == np.float64:  # whose bounds float32 may have rounded outwards
                value = np.clip(value, part.low, part.high)
            values.append(value[()] if isinstance(vector, np.ndarray) else value)
        return _nest(self.space, iter(values))

    def flat(self, action: Any) -> np.ndarray:
        """The vector [D] of an action of the Dict or Tuple."""
        return np.concatenate([np.ravel(value) for value in _values(self.space, action)]).astype(np.float32)

    def sample(self, mask: Any = None, probability: Any = None) -> np.ndarray:
        """A random action of each part."""
        return np.concatenate([np.ravel(part.sample()) for part in self.parts]).astype(np.float32)

    def seed(self, seed: Any = None) -> Any:
        """Seed every part's random numbers."""
        for i, part in enumerate(self.parts):
            part.seed(None if seed is None else seed + i)
        return super().seed(seed)

    def contains(self, x: Any) -> bool:
        """Whether x is a vector of D numbers within all bounds, of whole numbers where it should be."""
        if not isinstance(x, np.ndarray) or x.shape != self.shape or x.dtype.kind not in "iuf":
            return False
        inside = ((x >= self.low) & (x <= self.high)).all()
        return bool(inside and (x[self.whole] == np.rint(x[self.whole])).all())

    def bounded(self, vector: Any, xp: Any) -> Any:
        """A vector as an algorithm emits it, where choices count from 0, as the environment gets it: whole where it has
        to be, and within bounds."""
        vector = vector + self.start
        return xp.clip(xp.where(self.whole, xp.rint(vector), vector), self.low, self.high).astype(np.float32)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Mixed) and self.space == other.space

    def __repr__(self) -> str:
        return f"Mixed({self.space})"


def mixed(space: Space) -> Space:
    """A Dict or Tuple space as `Mixed`, another as it is."""
    return Mixed(space) if isinstance(space, (Dict, Tuple)) else space


def parts_of(space: Space) -> list[Space]:
    """The simple spaces inside of a Dict or Tuple, in JAX's order; raises `IncompatibleError` for others."""
    if isinstance(space, Dict):
        return [leaf for name in sorted(space.spaces) for leaf in parts_of(space.spaces[name])]
    if isinstance(space, Tuple):
        return [leaf for part in space.spaces for leaf in parts_of(part)]
    if isinstance(space, (Box, Discrete, MultiDiscrete, MultiBinary)):
        return [space]
    raise IncompatibleError(
        f"the action space has a part {space}; parts may be Box, Discrete, MultiDiscrete and MultiBinary"
    )


def _nest(space: Space, values: Any) -> Any:
    if isinstance(space, Dict):
        found = {name: _nest(space.spaces[name], values) for name in sorted(space.spaces)}
        return {name: found[name] for name in space.spaces}
    if isinstance(space, Tuple):
        return tuple(_nest(part, values) for part in space.spaces)
    return next(values)


def _values(space: Space, action: Any) -> list[Any]:
    if isinstance(space, Dict):
        return [x for name in sorted(space.spaces) for x in _values(space.spaces[name], action[name])]
    if isinstance(space, Tuple):
        return [x for part, item in zip(space.spaces, action, strict=True) for x in _values(part, item)]
    return [action]


def _real(space: Space) -> bool:
    return isinstance(space, Box) and space.dtype.kind == "f"


def _start(space: Space, size: int) -> np.ndarray:
    start = space.start if isinstance(space, (Discrete, MultiDiscrete)) else 0
    return np.broadcast_to(np.ravel(start), size).astype(np.float32)


def _bounds(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest values [n], as float64."""
    if isinstance(space, Box):
        return space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    if isinstance(space, MultiBinary):
        return np.zeros(math.prod(space.shape)), np.ones(math.prod(space.shape))
    start = np.ravel(space.start).astype(np.float64)  # type: ignore[attr-defined]
    return start, start + np.ravel(space.n if isinstance(space, Discrete) else space.nvec) - 1  # type: ignore[attr-defined]
