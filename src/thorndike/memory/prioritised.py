"""Prioritised experience replay (Schaul et al. 2016): rows whose error was large are drawn more often."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from thorndike.configuration import config
from thorndike.domains import Fraction, NonNegative
from thorndike.memory import ranking as ranks
from thorndike.memory.replay import Uniform
from thorndike.memory.ring import Memory
from thorndike.schedules import Linear
from thorndike.types import Array, Metrics, Rollout, Transition


@config
class Prioritised(Uniform):
    """Proportional prioritised replay; see `thorndike.memory.ranking` for P(i) and the weights w.

    The weights are `extras["weight"]` of a batch, and multiply its losses: they undo what drawing by priority does to
    the expected gradient, wholly at β = 1. The rank-based variant, which needs the rows sorted, is not here.
    """

    alpha: NonNegative = 0.6  # 0: uniform; 1: proportional to the error
    beta: Fraction = Linear(0.4, 1.0)  # how far the weights undo the priorities
    by: Literal["td_error", "loss"] = "td_error"  # which metric of an update is a row's priority

    def init(self, example: Rollout) -> Memory:
        """An empty ring for rollouts shaped like `example` (shapes [T, E, ...])."""
        memory = super().init(example)
        return memory._replace(ranking=ranks.unranked(jax.tree.leaves(memory.data)[0].shape[0]))

    def add(self, memory: Memory, rollout: Rollout) -> Memory:
        """Write a rollout [T, E, ...] over the oldest rows."""
        rows = memory.cursor + jnp.arange(rollout.steps.reward.size)
        return super().add(memory, rollout)._replace(ranking=ranks.enter(memory.ranking, rows, self.alpha))

    def sample(self, memory: Memory, key: Array) -> Transition:
        """A batch [B, ...] by priority, with `extras["weight"]` and the rows' places, `extras["index"]`."""
        index, weight = ranks.draw(memory.ranking, self.batch_size, memory.size, self.beta, key)
        batch = self.read(memory, index)
        return batch._replace(extras={**batch.extras, "index": index, "weight": weight})

    def rank(self, ranking: Any, batch: Transition, metrics: Metrics) -> ranks.Ranking:
        """The ranking after an update with `batch`, whose errors, [B] or [1, B], are among its metrics."""
        index = batch.extras["index"]
        error = ranks.told(metrics, self.by, index.shape)
        return ranks.refresh(ranking, index, batch.extras["weight"], error, self.alpha)
