"""The whole state of a run, and the bookkeeping that drivers keep beside the algorithm: episodes and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.drivers.earned import earned_in
from thorndike.drivers.health import Health
from thorndike.types import Array, Metrics, PyTree, Transition

WINDOW = 100  # episodes over which returns are averaged
LEAST = 1024  # episodes that a run's state remembers at least


class Episodes(NamedTuple):
    """Returns, lengths and `Earned` of the episodes under way [E], and of the last N finished ones, in rings."""

    running_return: Array  # [E]
    running_length: Array  # [E]
    running_sums: dict[str, Array]  # [E] each, of what adds up
    returns: Array  # [N], a ring
    lengths: Array  # [N]
    steps: Array  # [N], environment steps of the run when it ended
    earned: dict[str, Array]  # [N] each
    count: Array  # type: ignore[assignment]  # episodes finished so far

    @staticmethod
    def start(num_envs: int, steps: int, info: dict[str, Any]) -> Episodes:
        """No episodes yet; of all that end within two rollouts of `steps` steps none is lost. `info` is that of steps
        [T, E, ...]."""
        zero, none = jnp.zeros(num_envs), jnp.zeros(max(LEAST, 2 * steps))
        whole, seen = none.astype(jnp.int32), jax.eval_shape(partial(earned_in, lead=2), info)
        sums, earned = {name: zero for name in seen.sums}, {name: none for name in seen.all}
        return Episodes(zero, zero.astype(jnp.int32), sums, none, whole, whole, earned, jnp.int32(0))

    def restart(self) -> Episodes:
        """With those under way forgotten: their environments are new."""
        names = ("running_return", "running_length", "running_sums")
        return self._replace(**{name: jax.tree.map(jnp.zeros_like, getattr(self, name)) for name in names})

    def add(self, steps: Transition, before: Array, dropped: Array | None = None) -> Episodes:
        """With a rollout's steps [T, E] counted in, but for the endings of episodes that were dropped.

        `before` is the number of environment steps before the rollout.
        """
        ended, seen = steps.ended, earned_in(steps.info, lead=2)

        def step(carry, x):
            *added, ended = x
            totals = jax.tree.map(jnp.add, carry, tuple(added))
            return jax.tree.map(lambda total: jnp.where(ended, 0, total), totals), totals

        start = (self.running_return, self.running_length, self.running_sums)
        each = (steps.reward, jnp.ones_like(ended, jnp.int32), seen.sums, ended)
        running, (totals, lengths, sums) = jax.lax.scan(step, start, each)
        done = (ended if dropped is None else ended & ~dropped).ravel()
        size, (length, n) = self.returns.shape[0], ended.shape
        rank = self.count + jnp.cumsum(done) - 1
        slot = jnp.where(done, rank % size, size)  # out of range: not written

        def kept(ring: Array, values: Array) -> Array:
            return ring.at[slot].set(values.ravel(), mode="drop")

        at = before + n * (1 + jnp.arange(length * n) // n)
        earned = {name: kept(self.earned[name], values) for name, values in {**sums, **seen.lasts}.items()}
        returns, lengths_, ends = kept(self.returns, totals), kept(self.lengths, lengths), kept(self.steps, at)
        return Episodes(*running, returns, lengths_, ends, earned, self.count + done.sum())

    def slots(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Of leaves [R, ...]: where in the rings the last `most` episodes of each run are, [R, most], the oldest first;
        and which of these there are."""
        count, size = np.asarray(self.count)[:, None], self.returns.shape[-1]
        rank = count - most + np.arange(most)
        return rank % size, rank >= np.maximum(0, count - size)


@partial(
    jax.tree_util.register_dataclass, data_fields=["sums", "count", "bad", "culprit", "stray"], meta_fields=["names"]
)
@dataclasses.dataclass(frozen=True)
class Tally:
    """Sums of the M metrics since the last log line, and when each first stopped being finite."""

    names: tuple[str, ...]
    sums: Array  # [M]
    count: Array
    bad: Array  # [M], iteration at which a metric was first not finite; -1: it never was
    culprit: Array  # the environment whose experience was the first of these; -1: none's
    stray: Array  # the largest observation so far that was far outside of its space; 0: none was

    @staticmethod
    def start(names: Iterable[str]) -> Tally:
        """Nothing yet."""
        names = tuple(names)
        never = jnp.int32(-1)
        return Tally(names, jnp.zeros(len(names)), jnp.int32(0), jnp.full(len(names), never), never, jnp.float32(0))

    def add(self, metrics: Metrics, iteration: Array, health: Health) -> Tally:
        """With one iteration counted in: what learning says of itself, and what is seen of its experience."""
        marked, values = self.watch(metrics, iteration, health), self.values(metrics, health)
        return dataclasses.replace(marked, sums=self.sums + values, count=self.count + 1)

    def watch(self, metrics: Metrics, iteration: Array, health: Health) -> Tally:
        """With an iteration looked at, but not counted in: nothing was learned in it."""
        bad = jnp.where((self.bad < 0) & ~jnp.isfinite(self.values(metrics, health)), iteration, self.bad)
        culprit = jnp.where(self.healthy(), health.culprit, self.culprit)
        return dataclasses.replace(self, bad=bad, culprit=culprit, stray=jnp.maximum(self.stray, health.stray))

    def values(self, metrics: Metrics, health: Health) -> Array:
        """The metrics of one iteration in the order of their names, [M]; 0 for those that it has not."""
        metrics = {**health.metrics, **metrics}
        return jnp.stack([jnp.float32(metrics.get(name, 0.0)) for name in self.names])

    def restart(self, fresh: Array) -> Tally:
        """With the sums at zero if `fresh`: the last ones were logged."""
        sums, count = jnp.where(fresh, 0.0, self.sums), jnp.where(fresh, 0, self.count)
        return dataclasses.replace(self, sums=sums, count=count)

    def healthy(self) -> Array:
        """Whether every metric has been finite all along, for each run where there is an axis of them."""
        return (self.bad < 0).all(-1)

    def of(self, name: str, values: Any) -> np.ndarray:
        """One metric's part of `sums` or `bad`, whatever the leading axes."""
        return np.asarray(values)[..., self.names.index(name)]


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
