"""Uniform experience replay (Lin 1992): a ring of transitions, written in place, sampled with replacement."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import config, require
from thorndike.types import Array, PyTree, Rollout, Transition


class Memory(NamedTuple):
    """The ring: every leaf of `data` is [capacity, ...]. Donated and rewritten in place; read-only in updates."""

    data: PyTree
    cursor: Array  # where the next row goes
    size: Array  # rows that are filled


@config
class Uniform:
    """Uniform replay."""

    capacity: int = 100_000  # transitions, rounded up to a multiple of what one rollout brings
    batch_size: int = 64
    warmup: int = 1_000  # transitions gathered by uniformly random actions before the first update

    def check(self) -> None:
        """Sizes are positive, and the warm-up fits in."""
        check_sizes(self.capacity, self.batch_size, self.warmup)

    def init(self, example: Rollout) -> Memory:
        """An empty ring for rollouts shaped like `example` (shapes [T, E, ...])."""
        return empty_ring(jax.eval_shape(_rows, example.steps), self.capacity)

    def add(self, memory: Memory, rollout: Rollout) -> Memory:
        """Write a rollout [T, E, ...] over the oldest rows."""
        return write_rows(memory, _rows(rollout.steps))

    def sample(self, memory: Memory, key: Array) -> Transition:
        """A batch [B, ...], uniform with replacement."""
        index = jax.random.randint(key, (self.batch_size,), 0, memory.size)
        return jax.tree.map(lambda ring: ring[index], memory.data)


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


def _rows(steps: Transition) -> PyTree:
    """A rollout's transitions one below the other, [T·E, ...], without what no batch needs."""
    kept = steps._replace(first=(), truncated=())  # type: ignore[arg-type]
    return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), kept)


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
    return Memory(data, (memory.cursor + n) % capacity, jnp.minimum(memory.size + n, capacity))
