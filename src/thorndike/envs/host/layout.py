"""How observations of one space lie in plain arrays, and which observations are let in."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from thorndike.envs.masks import choosable, flat_mask, mask_sizes
from thorndike.errors import IncompatibleError

_SAFE = {4: 1e38, 8: 1e76}  # by item size: a sum of squares below it has only elements that fit float32
_ALIGN = 64
GOES_ON, TERMINATED, TRUNCATED, DROPPED = range(4)  # what a step was to its episode
COST = "cost"  # what `info` calls a step's cost
SUCCESS = ("is_success", "success")  # and whether the task is done


class Fault(Exception):
    """A broken contract of an environment, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of an observation."""

    name: str  # in messages: "observation" or "observation['x']"
    shape: tuple[int, ...]
    source: np.dtype  # as the space says
    dtype: np.dtype  # as handed out: float64 becomes float32
    low: Any = None  # inclusive bounds; whole numbers outside of them are an error, floats are not
    high: Any = None
    safe: float = 0.0  # floats whose sum of squares is less are finite

    def check(self, value: Any) -> Any:
        """`value` as an array or integer that can be stored; raises `Fault`."""
        if type(value) is not np.ndarray or value.dtype != self.source or value.shape != self.shape:
            value = self._converted(value)
        if self.source.kind == "f":
            if not self.safe or not np.vdot(value, value) < self.safe:
                self._check_finite(value)
        elif self.low is not None:
            self._check_range(value)
        return value

    def _converted(self, value: Any) -> Any:
        if (
            self.low is not None
            and self.source.kind in "iu"
            and self.shape == ()
            and isinstance(value, (int, np.integer))
        ):
            return value  # Discrete
        try:
            array = np.asarray(value)
        except ValueError:
            raise Fault(f"{self.name} is a ragged {type(value).__name__}, not an array") from None
        if array.shape != self.shape:
            raise Fault(f"{self.name} has shape {array.shape}, its space says {self.shape}")
        if not np.can_cast(array.dtype, self.source, "same_kind"):
            raise Fault(f"{self.name} has dtype {array.dtype}, its space says {self.source}")
        with np.errstate(over="ignore"):
            cast = array.astype(self.source)
        if cast.dtype.kind in "iu" and not np.array_equal(cast, array):
            raise Fault(f"{self.name} has values that do not fit {self.source}")
        return cast

    def _check_finite(self, value: np.ndarray) -> None:
        with np.errstate(over="ignore"):
            good = np.isfinite(value) & np.isfinite(value.astype(self.dtype))
        if not good.all():
            bad = int(np.size(good) - np.count_nonzero(good))
            worst = value[~good].flat[0] if self.shape else value
            raise Fault(f"{self.name} is not finite: {bad} of {np.size(good)} values, such as {worst}")

    def _check_range(self, value: Any) -> None:
        if self.shape == ():
            good = self.low <= value <= self.high
        else:
            good = ((value >= self.low) & (value <= self.high)).all()
        if not good:
            if np.size(value) > 10:
                value = f"{value[(value < self.low) | (value > self.high)][0]} somewhere"
            wide = "; whole numbers have 32 bits here: give floats" if self.source.itemsize > 4 else ""
            raise Fault(f"{self.name} is {value}, outside of its space ({self.low} to {self.high}){wide}")


class Layout:
    """The arrays of a (possibly nested) observation space, and of legal-action masks.

    With `agents` a step gives a reward for each of so many. `logged` names numbers in `info`. Raises
    `IncompatibleError` for spaces that have no fixed shape (Sequence, Graph, Text, ...).
    """

    def __init__(
        self,
        space: Space,
        action: Space,
        mask_key: str | None = None,
        agents: int | None = None,
        logged: tuple[str, ...] = (),
    ):
        self.leaves: list[Leaf] = []
        self._tree = self._walk(space, "observation")
        self._single = self.leaves[0] if self._tree == 0 else None
        self.action_shape: tuple[int, ...] = action.shape or ()
        self.action_dtype = np.dtype(action.dtype)
        self.mask_key, self._action, self._choices = mask_key, action, mask_sizes(action)
        self.mask_size = sum(self._choices)
        self.reward_shape: tuple[int, ...] = () if agents is None else (agents,)
        self.logged = logged

    def _walk(self, space: Space, name: str) -> Any:
        if isinstance(space, Dict):
            return {key: self._walk(inner, f"{name}[{key!r}]") for key, inner in space.spaces.items()}
        if isinstance(space, Tuple):
            return tuple(self._walk(inner, f"{name}[{i}]") for i, inner in enumerate(space.spaces))
        self.leaves.append(leaf_of(space, name))
        return len(self.leaves) - 1

    def flat(self, obs: Any) -> list[Any]:
        """The checked leaves of one observation; raises `Fault`."""
        if self._single is not None:
            return [self._single.check(obs)]
        values: list[Any] = []
        self._collect(self._tree, obs, "observation", values)
        return values

    def _collect(self, tree: Any, obs: Any, name: str, values: list[Any]) -> None:
        if isinstance(tree, int):
            values.append(self.leaves[tree].check(obs))
        elif isinstance(tree, dict):
            if not isinstance(obs, Mapping) or obs.keys() != tree.keys():
                got = f"keys {sorted(map(str, obs))}" if isinstance(obs, Mapping) else type(obs).__name__
                raise Fault(f"{name} has {got}, its space is a Dict of {sorted(map(str, tree))}")
            for key, inner in tree.items():
                self._collect(inner, obs[key], f"{name}[{key!r}]", values)
        else:
            if not isinstance(obs, (tuple, list)) or len(obs) != len(tree):
                got = f"{len(obs)} parts" if isinstance(obs, (tuple, list)) else f"a {type(obs).__name__}"
                raise Fault(f"{name} is {got}, its space is a Tuple of {len(tree)}")
            for i, inner in enumerate(tree):
                self._collect(inner, obs[i], f"{name}[{i}]", values)

    def nest(self, leaves: list[Any], tree: Any = None) -> Any:
        """The observation pytree whose leaves are `leaves`: an array, or dicts and tuples of arrays."""
        tree = self._tree if tree is None else tree
        if isinstance(tree, int):
            return leaves[tree]
        if isinstance(tree, dict):
            return {key: self.nest(leaves, inner) for key, inner in tree.items()}
        return tuple(self.nest(leaves, inner) for inner in tree)

    def mask(self, info: Any, needed: bool = True) -> np.ndarray | None:
        """The legal actions that `info` tells, bool [A]; all when it tells none and none are needed.

        None where the first reset told none, and no later `info` may: nobody would look at them.
        """
        if not self.mask_key:
            if self.mask_size and isinstance(info, Mapping) and "action_mask" in info:
                raise Fault("info has an 'action_mask', though the first reset had none: give one each time, or never")
            return None
        mask = info.get(self.mask_key) if isinstance(info, Mapping) else None
        if mask is None:
            if needed:
                raise Fault(f"info has no {self.mask_key!r}, though the first reset had one")
            return np.ones(self.mask_size, bool)
        if type(mask) is not np.ndarray or mask.shape != (self.mask_size,):
            try:
                mask = flat_mask(mask, self._action)
            except ValueError as error:
                raise Fault(f"info[{self.mask_key!r}] {error}") from None
        mask = mask.astype(bool)
        if needed and not choosable(mask, self._choices):
            raise Fault(f"info[{self.mask_key!r}] allows no action")
        return mask

    def numbers(self, info: Any, ended: bool) -> list[float]:
        """The `logged` numbers of a step, 0 where it has none; raises `Fault` where an episode ends without."""
        told = info if isinstance(info, Mapping) else {}
        values = []
        for name in self.logged:
            value = told.get(name, 0.0)
            if ended and name not in told and name != COST:
                raise Fault(
                    f"info has no {name!r} at an episode's end; it has {', '.join(map(repr, told)) or 'nothing'}"
                )
            try:
                values.append(float(value))
            except (TypeError, ValueError):
                raise Fault(f"info[{name!r}] is {str(value)[:60]!r}, it should be a number") from None
            if name == COST and not math.isfinite(values[-1]):
                raise Fault(f"info[{name!r}] is {value}, not finite")
        return values


class Block:
    """What one worker and the driver share: arrays for `n` environments, in one buffer if given."""

    def __init__(self, layout: Layout, n: int, buffer: Any = None):
        fields = list(_fields(layout, n))
        memory = np.zeros(self.size(layout, n), np.uint8) if buffer is None else buffer
        arrays, offset = {}, 0
        for name, shape, dtype in fields:
            arrays[name] = np.ndarray(shape, dtype, memory, offset)
            offset += _padded(shape, dtype)
        leaves = range(len(layout.leaves))
        self.obs = [arrays[f"obs{k}"] for k in leaves]  # each [n, ...]
        self.final = [arrays[f"final{k}"] for k in leaves]  # rows of ended episodes only
        self.action = arrays["action"]
        self.reward = arrays["reward"]
        self.code = arrays["code"]  # `GOES_ON` and the others
        self.logged = arrays["logged"]
        self.mask, self.final_mask = arrays["mask"], arrays["final_mask"]
        self.fails = arrays["fails"]  # consecutive failures
        self.rebuilds = arrays["rebuilds"]
        # What is going on, see `begins`; it is quicker to write to than an array.
        self.at = memoryview(arrays["at"])  # type: ignore[arg-type]

    def begins(self, slot: int, phase: int, step: int, age: int) -> None:
        """Note what is going on from now on: the environment (-1: none), the phase, the step, its episode's."""
        at = self.at
        at[0], at[1], at[2], at[3], at[4] = slot, phase, step, age, time.monotonic_ns()

    def since(self) -> float:
        """When that was, on the clock of `time.monotonic`, in this and other processes."""
        return self.at[4] * 1e-9

    @staticmethod
    def size(layout: Layout, n: int) -> int:
        """Bytes of the buffer that such a block needs."""
        return sum(_padded(shape, dtype) for _, shape, dtype in _fields(layout, n))


def _fields(layout: Layout, n: int) -> Iterable[tuple[str, tuple[int, ...], Any]]:
    for k, leaf in enumerate(layout.leaves):
        yield f"obs{k}", (n, *leaf.shape), leaf.dtype
        yield f"final{k}", (n, *leaf.shape), leaf.dtype
    width = layout.mask_size if layout.mask_key else 0
    yield "action", (n, *layout.action_shape), layout.action_dtype
    yield "reward", (n, *layout.reward_shape), np.float32
    yield "code", (n,), np.uint8
    yield "logged", (n, len(layout.logged)), np.float32
    yield "mask", (n, width), bool
    yield "final_mask", (n, width), bool
    yield "fails", (n,), np.int64
    yield "rebuilds", (n,), np.int64
    yield "at", (5,), np.int64


def _padded(shape: tuple[int, ...], dtype: Any) -> int:
    return max(1, -(-math.prod(shape) * np.dtype(dtype).itemsize // _ALIGN)) * _ALIGN


def leaf_of(space: Space, name: str) -> Leaf:
    """How values of one simple space are kept; raises `IncompatibleError` where they have no fixed shape."""
    if isinstance(space, Box):
        wide = space.dtype.kind == "f" and space.dtype.itemsize > 4
        stored = np.dtype(np.float32) if wide else space.dtype
        if space.dtype.kind == "f":
            return Leaf(
                name, space.shape, space.dtype, stored, space.low, space.high, _SAFE.get(space.dtype.itemsize, 0.0)
            )
        limits = np.iinfo(space.dtype) if space.dtype.kind in "iu" else None
        free = limits is None or ((space.low == limits.min).all() and (space.high == limits.max).all())
        if limits is not None and space.dtype.itemsize > 4:
            narrow = kept(space.dtype)
            bounds = np.clip((space.low, space.high), narrow.min, narrow.max)
            return Leaf(name, space.shape, space.dtype, stored, *bounds)
        return Leaf(name, space.shape, space.dtype, stored, *(() if free else (space.low, space.high)))
    if isinstance(space, Discrete):
        low, high = int(space.start), int(space.start + space.n - 1)
        return Leaf(name, (), space.dtype, space.dtype, low, high)
    if isinstance(space, MultiDiscrete):
        return Leaf(name, space.shape, space.dtype, space.dtype, space.start, space.start + space.nvec - 1)
    if isinstance(space, MultiBinary):
        return Leaf(name, space.shape, space.dtype, space.dtype, 0, 1)
    raise IncompatibleError(
        f"the {name} space is {space}, which has no fixed shape. Box, Discrete, MultiDiscrete, "
        "MultiBinary, and Dict or Tuple of these are supported: wrap the environment so that it gives these."
    )


def kept(dtype: np.dtype) -> np.iinfo:
    """What is kept of whole numbers wider than 32 bits, which JAX narrows."""
    return np.iinfo(np.int32 if dtype.kind == "i" else np.uint32)


def stored_space(space: Space) -> Space:
    """The space of what is handed out: `space` with float64 boxes made float32."""
    if isinstance(space, Dict):
        return Dict({key: stored_space(inner) for key, inner in space.spaces.items()})
    if isinstance(space, Tuple):
        return Tuple([stored_space(inner) for inner in space.spaces])
    if isinstance(space, Box) and space.dtype.kind == "f" and space.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            return Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    return space
