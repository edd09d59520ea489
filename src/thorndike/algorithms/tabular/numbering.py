"""Numbers for the members of finite spaces: which row of a table an observation is, and which column an action."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

from thorndike.nets.torso import leaves
from thorndike.types import Array, PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Numbering:
    """Numbers the members x of a product of finite spaces from 0, its last component changing fastest:

    number = Σ_d (x_d - start_d) Π_{k > d} size_k

    The components are those of all simple spaces inside, in the order in which JAX flattens the members.
    """

    shape: tuple[int, ...]  # of a member, where the space is a simple one; else ()
    sizes: tuple[int, ...]  # how many values each component has
    starts: tuple[int, ...]  # the least value of each component

    @staticmethod
    def of(space: Space) -> Numbering | None:
        """The numbering of a Discrete, MultiDiscrete or MultiBinary space, or of a Tuple or Dict of such spaces; None
        for any other space."""
        parts = [_sizes_and_starts(part) for part in leaves(space)]
        if None in parts:
            return None
        sizes, starts = (tuple(int(x) for part in parts for x in part[i]) for i in (0, 1))  # type: ignore[index]
        return Numbering(tuple(space.shape or ()), sizes, starts)

    @property
    def count(self) -> int:
        """How many members there are."""
        return math.prod(self.sizes)

    @property
    def strides(self) -> np.ndarray:
        """How far apart the numbers of two members are that differ by 1 in one component, [D]."""
        return np.append(np.cumprod(self.sizes[:0:-1])[::-1], 1).astype(np.int32)

    def from_zero(self) -> Numbering:
        """The same with components that begin at 0: an algorithm's actions."""
        return dataclasses.replace(self, starts=(0,) * len(self.starts))

    def number(self, members: PyTree) -> Array:
        """The numbers [E] of members of the space with a leading axis [E]."""
        parts = [x.reshape(x.shape[0], -1).astype(jnp.int32) for x in jax.tree.leaves(members)]
        components = parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)
        return ((components - np.asarray(self.starts, np.int32)) * self.strides).sum(-1)

    def member(self, numbers: Array) -> Array:
        """The members [E, *shape] of a simple space that have these numbers [E]: the inverse of `number`."""
        components = numbers[:, None] // self.strides % np.asarray(self.sizes) + np.asarray(self.starts)
        return components.reshape(-1, *self.shape)

    def legal(self, mask: Array) -> Array:
        """Which members are legal [E, count], where `mask` [E, Σ sizes] says which values are, component by component:
        those of which every component is."""
        if len(self.sizes) == 1:
            return mask
        components = np.stack(np.unravel_index(np.arange(self.count), self.sizes), -1)  # [count, D]
        before = np.cumsum((0, *self.sizes[:-1]))
        return mask[:, before + components].all(-1)


def _sizes_and_starts(space: Space) -> tuple[np.ndarray, np.ndarray] | None:
    if isinstance(space, MultiDiscrete):
        return space.nvec.ravel(), space.start.ravel()
    if isinstance(space, MultiBinary):
        n = math.prod(space.shape)
        return np.full(n, 2), np.zeros(n, int)
    return (np.array([space.n]), np.array([space.start])) if isinstance(space, Discrete) else None
