"""The ring that replay memories keep their rows in: written in place, the newest rows over the oldest."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import require
from thorndike.types import Array, PyTree


class Memory(NamedTuple):
    """The ring: every leaf of `data` is [capacity, ...]. Donated and rewritten in place; read-only in updates."""

    data: PyTree
    cursor: Array  # where the next row goes
    size: Array  # rows that are filled
    stride: Any = ()  # rows from a step of an environment to its next, where a batch spans several
    ranking: PyTree = ()  # see `thorndike.memory.ranking`


def filled(tree: PyTree) -> PyTree:
    """A tree in which every `Memory`, leaves [R, capacity, ...], has only its filled rows, as NumPy arrays."""

    def rows(memory: Any) -> Any:
        if not isinstance(memory, Memory):
            return memory
        size = int(np.max(memory.size))  # runs fill their rings in step
        return memory._replace(data=jax.tree.map(lambda ring: np.asarray(ring)[:, :size], memory.data))

    return jax.tree.map(rows, tree, is_leaf=lambda x: isinstance(x, Memory))


def check_sizes(capacity: int, batch_size: int, warmup: int) -> None:
    """Raise `ConfigError` unless sizes are positive and the warm-up fits in."""
    require(capacity > 0 and batch_size > 0, "replay capacity and batch_size must be positive")
    require(0 < warmup <= capacity, f"replay.warmup must lie between 1 and capacity ({capacity}), got {warmup}")


def empty_ring(rows: PyTree, capacity: int) -> Memory:
    """A ring of at least `capacity` rows, a multiple of those that come at a time, so that writing never wraps."""
    n = jax.tree.leaves(rows)[0].shape[0]
    size = -(-capacity // n) * n
    return Memory(jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), rows), jnp.int32(0), jnp.int32(0))


def write_rows(memory: Memory, rows: PyTree) -> Memory:
    """Write rows [N, ...] over the oldest ones."""
    n, capacity = (jax.tree.leaves(tree)[0].shape[0] for tree in (rows, memory.data))
    there = memory.cursor + jnp.arange(n) >= 0

    def write(ring: Array, new: Array) -> Array:
        # Always true. Where XLA sees that a reward is constant, it writes it twice, the second time in a copy.
        new = jnp.where(there.reshape(n, *(1,) * (new.ndim - 1)), new, jnp.zeros_like(new))
        return jax.lax.dynamic_update_slice_in_dim(ring, new.astype(ring.dtype), memory.cursor, 0)

    data = jax.tree.map(write, memory.data, rows)
    cursor, size = (memory.cursor + n) % capacity, jnp.minimum(memory.size + n, capacity)
    return memory._replace(data=data, cursor=cursor, size=size)
