"""Replay of sequences, for networks with memory: each row is one environment's part of a rollout, and its carry."""

from __future__ import annotations

import jax

from thorndike.configuration import config, require
from thorndike.memory.replay import Memory, check_sizes, empty_ring, write_rows
from thorndike.types import Array, PyTree, Rollout


@config
class Sequences:
    """Sequences as long as a rollout, with the carry that acting had at their start (Kapturowski et al. 2019, R2D2).

    The first `burn_in` steps of each only bring the stored carry up to date; they are not learned from.
    """

    capacity: int = 100_000  # transitions
    batch_size: int = 32  # sequences
    burn_in: int = 0  # steps
    warmup: int = 1_000  # transitions gathered by uniformly random actions before the first update

    def check(self) -> None:
        """Sizes are positive, and the warm-up fits in."""
        check_sizes(self.capacity, self.batch_size, self.warmup)
        require(self.burn_in >= 0, f"replay.burn_in must be 0 or more, got {self.burn_in}")

    def init(self, example: Rollout) -> Memory:
        """An empty ring for rollouts shaped like `example` (shapes [T, E, ...])."""
        rows = jax.eval_shape(_rows, example)
        length = example.steps.reward.shape[0]
        return empty_ring(rows, -(-self.capacity // length))

    def add(self, memory: Memory, rollout: Rollout) -> Memory:
        """Write a rollout's E sequences over the oldest ones."""
        return write_rows(memory, _rows(rollout))

    def sample(self, memory: Memory, key: Array) -> Rollout:
        """Whole sequences [T, B, ...] with their carries [B, ...], uniform with replacement; `last` is ()."""
        index = jax.random.randint(key, (self.batch_size,), 0, memory.size)
        steps, carry = jax.tree.map(lambda ring: ring[index], memory.data)
        return Rollout(jax.tree.map(lambda x: x.swapaxes(0, 1), steps), carry, ())  # type: ignore[arg-type]


def _rows(rollout: Rollout) -> PyTree:
    """A rollout as (steps [E, T, ...], carry [E, ...]), without what no batch needs."""
    kept = rollout.steps._replace(truncated=())  # type: ignore[arg-type]
    return jax.tree.map(lambda x: x.swapaxes(0, 1), kept), rollout.carry
