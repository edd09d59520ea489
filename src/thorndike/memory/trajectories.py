"""Replay of windows: steps of one environment that follow each other, over the ends of episodes too."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.memory.ring import Memory, check_sizes, empty_ring, write_rows
from thorndike.memory.windows import window
from thorndike.types import Array, PyTree, Rollout, Transition


@config
class Windows:
    """Windows of `length` steps, uniform among all that are whole, with their extras and both kinds of ends.

    A window may run over the end of an episode into the next one. Where a run was resumed, an episode may begin though
    the last one has no end: there its last step is said to be truncated.
    """

    capacity: int = 100_000  # transitions, rounded up to a multiple of what one rollout brings
    batch_size: int = 128  # windows
    length: int = 6  # steps in a window
    warmup: int = 1_000  # transitions gathered by uniformly random actions before the first update

    def check(self) -> None:
        """Sizes are positive, and the warm-up fits in."""
        check_sizes(self.capacity, self.batch_size, self.warmup)
        require(self.length > 0, f"replay.length must be 1 or more, got {self.length}")

    def init(self, example: Rollout) -> Memory:
        """An empty ring for rollouts shaped like `example` (shapes [T, E, ...]).

        Raises:
            ConfigError: no window is whole after the warm-up.
        """
        steps, envs = example.steps.reward.shape
        rollouts = -(-self.warmup // (steps * envs))
        require(
            rollouts * steps >= self.length,
            f"after the warm-up each environment has made {rollouts * steps} steps, and windows have replay.length "
            f"{self.length}: set replay.warmup to {self.length * envs} or more",
        )
        memory = empty_ring(jax.eval_shape(_rows, example.steps), max(self.capacity, self.length * envs))
        return memory._replace(stride=jnp.int32(envs))

    def add(self, memory: Memory, rollout: Rollout) -> Memory:
        """Write a rollout [T, E, ...] over the oldest rows."""
        return write_rows(memory, _rows(rollout.steps))

    def sample(self, memory: Memory, key: Array) -> Rollout:
        """Windows [length, B, ...], uniform with replacement; `carry` and `last` are ()."""
        capacity = memory.data.reward.shape[0]
        oldest = jnp.where(memory.size == capacity, memory.cursor, 0)
        whole = memory.size - (self.length - 1) * memory.stride  # the newest rows begin none
        return self.read(memory, (oldest + jax.random.randint(key, (self.batch_size,), 0, whole)) % capacity)

    def read(self, memory: Memory, index: Array) -> Rollout:
        """The windows that begin with the rows `index` [B]."""
        rows, _ = window(memory, index, self.length)
        steps: Transition = jax.tree.map(lambda ring: ring[rows], memory.data)
        seam = jnp.concatenate([steps.first[1:] & ~steps.ended[:-1], jnp.zeros_like(steps.first[:1])])
        return Rollout(steps._replace(truncated=steps.truncated | seam), (), ())  # type: ignore[arg-type]


def _rows(steps: Transition) -> PyTree:
    """A rollout's transitions one below the other, [T·E, ...]."""
    return jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), steps)
