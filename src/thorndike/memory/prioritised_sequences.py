"""Prioritised replay of sequences (Kapturowski et al. 2019, R2D2)."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp

from thorndike.configuration import config
from thorndike.domains import Fraction, NonNegative
from thorndike.memory import ranking as ranks
from thorndike.memory.sequences import SequenceMemory, Sequences
from thorndike.types import Array, Metrics, Rollout


@config
class PrioritisedSequences(Sequences):
    """Sequences, those with large errors more often: p = η max_t |δ_t| + (1 - η) mean_t |δ_t| over a sequence.

    See `Prioritised` for P(i) and the weights.
    """

    alpha: NonNegative = 0.9  # 0: uniform; 1: proportional to the error
    beta: Fraction = 0.6  # how far the weights undo the priorities
    eta: Fraction = 0.9  # η: the largest error's part in a sequence's priority
    by: Literal["td_error", "loss"] = "td_error"  # which metric of an update is a step's error

    def init(self, example: Rollout) -> SequenceMemory:
        """An empty ring for rollouts shaped like `example` (shapes [T, E, ...])."""
        memory = super().init(example)
        return memory._replace(ranking=ranks.unranked(memory.ring.data[0].reward.shape[0]))

    def add(self, memory: SequenceMemory, rollout: Rollout) -> SequenceMemory:
        """Write a rollout's E sequences over the oldest ones."""
        rows = memory.ring.cursor + jnp.arange(rollout.steps.reward.shape[1])
        return super().add(memory, rollout)._replace(ranking=ranks.enter(memory.ranking, rows, self.alpha))

    def sample(self, memory: SequenceMemory, key: Array) -> Rollout:
        """Sequences [burn_in + T, B, ...] by priority, with `extras["weight"]` and `extras["index"]`, one for all steps
        of a sequence."""
        index, weight = ranks.draw(memory.ranking, self.batch_size, memory.ring.size, self.beta, key)
        batch = self.read(memory, index)
        drawn = {"index": index, "weight": weight}
        drawn = {name: jnp.broadcast_to(x, batch.steps.reward.shape) for name, x in drawn.items()}
        return batch._replace(steps=batch.steps._replace(extras={**batch.steps.extras, **drawn}))

    def rank(self, ranking: Any, batch: Rollout, metrics: Metrics) -> ranks.Ranking:
        """The ranking after an update with `batch`, whose errors [T, B] are among its metrics."""
        index, weight = (batch.steps.extras[name][0] for name in ("index", "weight"))
        length, sequences = batch.steps.extras["index"].shape
        error = ranks.told(metrics, self.by, (length - self.burn_in, sequences))
        mixed = self.eta * error.max(0) + (1.0 - self.eta) * error.mean(0)
        return ranks.refresh(ranking, index, weight, mixed, self.alpha)
