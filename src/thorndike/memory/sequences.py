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
    ranking: PyTree = ()  # see `thorndike.memory.ranking`


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
    n_step: int = 1  # steps that a target spans, fewer where an episode or the sequence ends

    def check(self) -> None:
        """Sizes are positive, and the warm-up fits in."""
        check_sizes(self.capacity, self.batch_size, self.warmup)
        require(self.n_step > 0, f"replay.n_step must be 1 or more, got {self.n_step}")
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
        return memory._replace(ring=write_rows(memory.ring, _rows(steps)), tail=tail)

    def sample(self, memory: SequenceMemory, key: Array) -> Rollout:
        """Sequences [burn_in + T, B, ...] with their carries [B, ...], uniform with replacement; `last` is ()."""
        return self.read(memory, jax.random.randint(key, (self.batch_size,), 0, memory.ring.size))

    def read(self, memory: SequenceMemory, index: Array) -> Rollout:
        """The sequences `index` [B]; with returns over n steps as `spanning` says."""
        steps, carry = jax.tree.map(lambda ring: ring[index], memory.ring.data)
        steps = jax.tree.map(lambda x: x.swapaxes(0, 1), steps)
        return Rollout(spanning(steps, self.n_step) if self.n_step > 1 else steps, carry, ())  # type: ignore[arg-type]


def spanning(steps: Transition, n: int) -> Transition:
    """Sequences [T, B, ...] whose rewards are of up to n steps, of which `ops.returns.n_step` makes targets.

    `extras["later"]` are the n - 1 rewards after each, 0 behind the end of its episode or the sequence, and
    `extras["steps"]` says how many it spans [T, B]; `terminated` and the mask at s' are the last one's. `next_obs` is
    every step's own: what a network says there is brought to the steps before by `at_last`.
    """
    ended = jnp.concatenate([steps.terminated[:-1] | steps.first[1:], jnp.ones_like(steps.terminated[:1])])
    ahead = lambda x, k: jnp.concatenate([x[k:], jnp.zeros_like(x[:k])])  # noqa: E731
    alive, later = jnp.ones_like(ended), []
    span = jnp.ones(ended.shape, jnp.int32)
    for k in range(1, n):
        alive = alive & ~ahead(ended, k - 1) if k <= len(ended) else jnp.zeros_like(alive)
        later.append(jnp.where(alive, ahead(steps.reward, k), 0.0))
        span = span + alive
    info = {name: at_last(x, span) if name.startswith("next_") else x for name, x in steps.info.items()}
    extras = {**steps.extras, "later": jnp.stack(later, -1), "steps": span}
    return steps._replace(terminated=at_last(steps.terminated, span), info=info, extras=extras)


def at_last(tree: PyTree, span: Array) -> PyTree:
    """What is [T, B, ...] at each step, at the last of the `span` [T, B] steps that begin there."""
    last = jnp.arange(span.shape[0])[:, None] + span - 1
    return jax.tree.map(lambda x: x[last, jnp.arange(span.shape[1])], tree)


def _joined(tail: PyTree, steps: Transition) -> Transition:
    """One after the other, [burn_in + T, E, ...]; the steps alone where there is no tail."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), tail, steps) if tail else steps


def _rows(steps: Transition) -> PyTree:
    """Sequences as (steps [E, T, ...], carry [E, ...]), without what no batch needs."""
    carry = jax.tree.map(lambda x: x[0], steps.extras["carry"])
    kept = steps._replace(extras={}, truncated=())  # type: ignore[arg-type]
    return jax.tree.map(lambda x: x.swapaxes(0, 1), kept), carry
