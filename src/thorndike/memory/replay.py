"""Uniform experience replay (Lin 1992): a ring of transitions, sampled with replacement."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.memory.ring import Memory, check_sizes, empty_ring, write_rows
from thorndike.memory.windows import joined
from thorndike.types import Array, PyTree, Rollout, Transition


@config
class Uniform:
    """Uniform replay; with `n_step` above 1, of returns over so many steps (Sutton & Barto 2018, eq. 7.1)."""

    capacity: int = 100_000  # transitions, rounded up to a multiple of what one rollout brings
    batch_size: int = 64
    warmup: int = 1_000  # transitions gathered by uniformly random actions before the first update
    n_step: int = 1  # steps that a transition spans, fewer where its episode ends

    def check(self) -> None:
        """Sizes are positive, and the warm-up fits in."""
        check_sizes(self.capacity, self.batch_size, self.warmup)
        require(self.n_step > 0, f"replay.n_step must be 1 or more, got {self.n_step}")

    def init(self, example: Rollout) -> Memory:
        """An empty ring for rollouts shaped like `example` (shapes [T, E, ...])."""
        memory = empty_ring(jax.eval_shape(self.rows, example.steps), self.capacity)
        return memory._replace(stride=jnp.int32(example.steps.reward.shape[1])) if self.n_step > 1 else memory

    def rows(self, steps: Transition) -> PyTree:
        """A rollout's transitions one below the other, [T·E, ...], without what no batch needs."""
        kept = steps if self.n_step > 1 else steps._replace(first=(), truncated=())  # type: ignore[arg-type]
        return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), kept)

    def add(self, memory: Memory, rollout: Rollout) -> Memory:
        """Write a rollout [T, E, ...] over the oldest rows."""
        return write_rows(memory, self.rows(rollout.steps))

    def sample(self, memory: Memory, key: Array) -> Transition:
        """A batch [B, ...], uniform with replacement."""
        return self.read(memory, jax.random.randint(key, (self.batch_size,), 0, memory.size))

    def read(self, memory: Memory, index: Array) -> Transition:
        """The transitions [B, ...] that begin with the rows `index` [B]; those over n steps are as `joined` says."""
        return joined(memory, index, self.n_step) if self.n_step > 1 else jax.tree.map(lambda x: x[index], memory.data)
