"""Replay of sequences, for networks with memory: each row is one environment's part of a rollout, and its carry."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.memory.ring import Memory, check_sizes, empty_ring, write_rows
from thorndike.types import Array, PyTree, Rollout, Transition


class SequenceMemory(NamedTuple):
    """A ring of sequences, and the steps that the next ones begin with."""

    ring: Memory
    tail: Transition | tuple[()]  # the last `burn_in` steps, [burn_in, E, ...]; () where that is none


@config
class Sequences:
    """Sequences with the carry that acting had at their start (Kapturowski et al. 2019, R2D2).

    Each is an environment's part of a rollout and the `burn_in` steps before it. Those only bring the stored carry up
    to date: they were learned from in the sequence before. `act` hands its carry on as `extras["carry"]`.
    """

    capacity: int = 100_000  # transitions, each counted once though a burn-in shows it again
    batch_size: int = 32  # sequences
    burn_in: int = 0  # steps
    warmup: int = 1_000  # transitions gathered by uniformly random actions before the first update

    def check(self) -> None:
        """Sizes are positive, and the warm-up fits in."""
        check_sizes(self.capacity, self.batch_size, self.warmup)
        require(self.burn_in >= 0, f"replay.burn_in must be 0 or more, got {self.burn_in}")

    def init(self, example: Rollout) -> SequenceMemory:
        """An empty ring for rollouts shaped like `example` (shapes [T, E, ...])."""
        steps, zeros = example.steps, lambda x: jnp.zeros((self.burn_in, *x.shape[1:]), x.dtype)
        tail: PyTree = jax.tree.map(zeros, steps) if self.burn_in else ()
        rows = jax.eval_shape(lambda steps: _rows(_joined(tail, steps)), steps)
        return SequenceMemory(empty_ring(rows, -(-self.capacity // steps.reward.shape[0])), tail)

    def add(self, memory: SequenceMemory, rollout: Rollout) -> SequenceMemory:
        """Write a rollout's E sequences over the oldest ones. Before the very first stands its own first step."""
        steps, tail = rollout.steps, memory.tail
        if tail:
            begun = memory.ring.size > 0
            steps = _joined(jax.tree.map(lambda old, new: jnp.where(begun, old, new[:1]), tail, steps), steps)
            tail = jax.tree.map(lambda x: x[-self.burn_in :], steps)
        return SequenceMemory(write_rows(memory.ring, _rows(steps)), tail)

    def sample(self, memory: SequenceMemory, key: Array) -> Rollout:
        """Sequences [burn_in + T, B, ...] with their carries [B, ...], uniform with replacement; `last` is ()."""
        index = jax.random.randint(key, (self.batch_size,), 0, memory.ring.size)
        steps, carry = jax.tree.map(lambda ring: ring[index], memory.ring.data)
        return Rollout(jax.tree.map(lambda x: x.swapaxes(0, 1), steps), carry, ())  # type: ignore[arg-type]


def _joined(tail: PyTree, steps: Transition) -> Transition:
    """One after the other, [burn_in + T, E, ...]; the steps alone where there is no tail."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), tail, steps) if tail else steps


def _rows(steps: Transition) -> PyTree:
    """Sequences as (steps [E, T, ...], carry [E, ...]), without what no batch needs."""
    carry = jax.tree.map(lambda x: x[0], steps.extras["carry"])
    kept = steps._replace(extras={}, truncated=())  # type: ignore[arg-type]
    return jax.tree.map(lambda x: x.swapaxes(0, 1), kept), carry
