"""Cells: observations by number, coarse enough that there are not too many."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box

from thorndike.algorithms.tabular.numbering import Numbering
from thorndike.nets.torso import leaves
from thorndike.types import Array, PyTree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Cells:
    """Cells of a finite space are its members; those of bounded floats are `bins` equal parts of each range."""

    count: int
    actions: int  # how many there are in each
    rows: Numbering | None  # where the space is finite
    bins: int
    bounds: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()  # of each Box

    @staticmethod
    def of(space: Space, actions: int, bins: int) -> Cells | None:
        """The cells of a space; None where it has other parts than finite ones, or than Boxes with finite bounds."""
        rows = Numbering.of(space)
        if rows is not None:
            return Cells(rows.count, actions, rows, bins)
        boxes = leaves(space)
        if not all(isinstance(part, Box) and np.isfinite([part.low, part.high]).all() for part in boxes):
            return None
        bounds = tuple((tuple(part.low.ravel().tolist()), tuple(part.high.ravel().tolist())) for part in boxes)
        return Cells(bins ** sum(len(low) for low, _ in bounds), actions, None, bins, bounds)

    def number(self, obs: PyTree) -> Array:
        """The cells [E] of observations [E, ...]."""
        if self.rows is not None:
            return self.rows.number(obs)
        parts = []
        for x, (low, high) in zip(jax.tree.leaves(obs), self.bounds):
            least, span = np.asarray(low), np.maximum(np.subtract(high, low), 1e-12)
            share = (x.reshape(x.shape[0], -1) - least) / span
            parts.append(jnp.clip(jnp.floor(share * self.bins), 0, self.bins - 1).astype(jnp.int32))
        digits = jnp.concatenate(parts, -1)
        return (digits * self.bins ** np.arange(digits.shape[-1])[::-1]).sum(-1)

    def megabytes(self, horizon: int) -> int:
        """What an archive with the way to each cell takes."""
        return math.ceil(4e-6 * self.count * horizon)
