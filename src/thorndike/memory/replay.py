"""Uniform experience replay (Lin 1992): a ring of transitions, written in place, sampled with replacement."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.types import Array, PyTree, Transition


class Memory(NamedTuple):
    """The ring: every leaf of `data` is [capacity, ...]. Donated and rewritten in place; read-only in updates."""

    data: Transition
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
        require(self.capacity > 0 and self.batch_size > 0, "replay capacity and batch_size must be positive")
        require(
            0 < self.warmup <= self.capacity,
            f"replay.warmup must lie between 1 and capacity ({self.capacity}), got {self.warmup}",
        )

    def init(self, example: Transition) -> Memory:
        """An empty ring for rollouts shaped like `example` (shapes [T, E, ...])."""
        rows = example.reward.shape[0] * example.reward.shape[1]
        capacity = -(-self.capacity // rows) * rows
        empty = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[2:]), x.dtype), _kept(example))
        return Memory(empty, jnp.int32(0), jnp.int32(0))

    def add(self, memory: Memory, steps: Transition) -> Memory:
        """Write a rollout [T, E, ...] over the oldest rows; `capacity` is a multiple of T·E, so it never wraps."""
        rows = steps.reward.size
        capacity = memory.data.reward.shape[0]
        there = memory.cursor + jnp.arange(rows) >= 0

        def write(ring, new):
            flat = new.reshape((rows, *new.shape[2:])).astype(ring.dtype)
            # Always true. Where XLA sees that a reward is constant, it writes it twice, the second time in a copy.
            flat = jnp.where(there.reshape(rows, *(1,) * (flat.ndim - 1)), flat, jnp.zeros_like(flat))
            return jax.lax.dynamic_update_slice_in_dim(ring, flat, memory.cursor, 0)

        data = jax.tree.map(write, memory.data, _kept(steps))
        return Memory(data, (memory.cursor + rows) % capacity, jnp.minimum(memory.size + rows, capacity))

    def sample(self, memory: Memory, key: Array) -> Transition:
        """A batch [B, ...], uniform with replacement."""
        index = jax.random.randint(key, (self.batch_size,), 0, memory.size)
        return jax.tree.map(lambda ring: ring[index], memory.data)


def _kept(steps: Transition) -> PyTree:
    return steps._replace(first=(), truncated=(), extras={})  # type: ignore[arg-type]
