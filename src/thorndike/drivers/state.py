"""The whole state of a run, and the bookkeeping that drivers keep beside the algorithm: episodes and metrics."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thorndike.types import Array, Metrics, PyTree, Rollout

WINDOW = 100  # episodes over which returns are averaged


class Episodes(NamedTuple):
    """Returns and lengths of the episodes under way [E] and of the last `WINDOW` finished ones."""

    running_return: Array  # [E]
    running_length: Array  # [E]
    returns: Array  # [WINDOW], a ring
    lengths: Array  # [WINDOW]
    count: Array  # type: ignore[assignment]  # episodes finished so far

    @staticmethod
    def start(num_envs: int) -> Episodes:
        """No episodes yet."""
        zero, none = jnp.zeros(num_envs), jnp.zeros(WINDOW)
        return Episodes(zero, zero.astype(jnp.int32), none, none.astype(jnp.int32), jnp.int32(0))

    def restart(self) -> Episodes:
        """With those under way forgotten: their environments are new."""
        nothing = jnp.zeros_like(self.running_return), jnp.zeros_like(self.running_length)
        return self._replace(running_return=nothing[0], running_length=nothing[1])

    def add(self, reward: Array, ended: Array) -> Episodes:
        """With a rollout's rewards and endings [T, E] counted in."""

        def step(carry, x):
            total, length = carry
            reward, ended = x
            total, length = total + reward, length + 1
            return (jnp.where(ended, 0.0, total), jnp.where(ended, 0, length)), (total, length)

        running, (totals, lengths) = jax.lax.scan(step, (self.running_return, self.running_length), (reward, ended))
        done = ended.ravel()
        rank = self.count + jnp.cumsum(done) - 1
        last = self.count + done.sum()
        slot = jnp.where(done & (rank >= last - WINDOW), rank % WINDOW, WINDOW)  # out of range: dropped
        returns = self.returns.at[slot].set(totals.ravel(), mode="drop")
        lengths_ = self.lengths.at[slot].set(lengths.ravel(), mode="drop")
        return Episodes(*running, returns, lengths_, last)


class Tally(NamedTuple):
    """Sums of the metrics since the last log line, and when each first stopped being finite."""

    sums: Metrics
    count: Array  # type: ignore[assignment]
    bad: dict[str, Array]  # iteration at which a metric was first not finite; -1: it never was

    @staticmethod
    def start(names: list[str]) -> Tally:
        """Nothing yet."""
        zeros, never = (dict.fromkeys(names, jnp.float32(0)), dict.fromkeys(names, jnp.int32(-1)))
        return Tally(zeros, jnp.int32(0), never)

    def add(self, metrics: Metrics, iteration: Array) -> Tally:
        """With one iteration's metrics counted in."""
        sums = {name: self.sums[name] + metrics[name] for name in self.sums}

        def mark(bad: Array, value: Array) -> Array:
            return jnp.where((bad < 0) & ~jnp.isfinite(value), iteration, bad)

        return Tally(sums, self.count + 1, {name: mark(self.bad[name], metrics[name]) for name in self.bad})

    def watch(self, metrics: Metrics, iteration: Array) -> Tally:
        """With the metrics of an iteration without learning looked at, but not counted in."""
        seen = self.add({**dict.fromkeys(self.sums, jnp.float32(0)), **metrics}, iteration)
        return self._replace(bad=seen.bad)

    def restart(self, fresh: Array) -> Tally:
        """With the sums at zero if `fresh`: the last ones were logged."""
        sums, count = jax.tree.map(lambda x: jnp.where(fresh, jnp.zeros_like(x), x), (self.sums, self.count))
        return Tally(sums, count, self.bad)

    def healthy(self) -> Array:
        """Whether every metric has been finite all along; over all runs where there is an axis of them."""
        return jnp.stack([(bad < 0).all() for bad in self.bad.values()]).all()


class RunState(NamedTuple):
    """Everything that changes in a run: what a checkpoint holds. Every leaf has the leading axis [R]."""

    agent: PyTree
    memory: PyTree
    now: PyTree  # Timestep; its simulator too where that is JAX's
    carry: PyTree
    key: Array
    steps: Array  # environment steps so far
    total: Array  # environment steps planned
    iterations: Array
    episodes: Episodes
    tally: Tally


def rollout_health(rollout: Rollout) -> Metrics:
    """Metrics of the experience itself; they come first where a NaN spreads."""
    floats = [x for x in jax.tree.leaves(rollout.steps.next_obs) if jnp.issubdtype(x.dtype, jnp.floating)]
    worst = [jnp.abs(x).max() for x in floats]
    health = {"rollout/observation_max": jnp.stack(worst).max()} if worst else {}
    return {**health, "rollout/reward_mean": rollout.steps.reward.mean()}
