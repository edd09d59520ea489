"""The whole state of a run, and the bookkeeping that drivers keep beside the algorithm: episodes and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space

from thorndike.envs.host.layout import leaf_of
from thorndike.envs.masks import choosable, mask_sizes
from thorndike.nets.torso import leaves
from thorndike.types import Array, Metrics, PyTree, Rollout, Transition

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

    def add(self, reward: Array, ended: Array, dropped: Array | None = None) -> Episodes:
        """With a rollout's rewards and endings [T, E] counted in, but for the endings of episodes that were dropped."""

        def step(carry, x):
            total, length = carry
            reward, ended = x
            total, length = total + reward, length + 1
            return (jnp.where(ended, 0.0, total), jnp.where(ended, 0, length)), (total, length)

        running, (totals, lengths) = jax.lax.scan(step, (self.running_return, self.running_length), (reward, ended))
        done = (ended if dropped is None else ended & ~dropped).ravel()
        rank = self.count + jnp.cumsum(done) - 1
        last = self.count + done.sum()
        slot = jnp.where(done & (rank >= last - WINDOW), rank % WINDOW, WINDOW)  # out of range: dropped
        returns = self.returns.at[slot].set(totals.ravel(), mode="drop")
        lengths_ = self.lengths.at[slot].set(lengths.ravel(), mode="drop")
        return Episodes(*running, returns, lengths_, last)


@partial(jax.tree_util.register_dataclass, data_fields=["sums", "count", "bad", "culprit"], meta_fields=["names"])
@dataclasses.dataclass(frozen=True)
class Tally:
    """Sums of the M metrics since the last log line, and when each first stopped being finite."""

    names: tuple[str, ...]
    sums: Array  # [M]
    count: Array
    bad: Array  # [M], iteration at which a metric was first not finite; -1: it never was
    culprit: Array  # the environment whose experience was the first of these; -1: none's

    @staticmethod
    def start(names: Iterable[str]) -> Tally:
        """Nothing yet."""
        names = tuple(names)
        never = jnp.int32(-1)
        return Tally(names, jnp.zeros(len(names)), jnp.int32(0), jnp.full(len(names), never), never)

    def add(self, metrics: Metrics, iteration: Array, culprit: Array) -> Tally:
        """With one iteration's metrics counted in, and the environment that was at fault in it (-1: none)."""
        values = jnp.stack([jnp.float32(metrics[name]) for name in self.names])
        marked = self.marked(values, iteration, culprit)
        return dataclasses.replace(marked, sums=self.sums + values, count=self.count + 1)

    def watch(self, metrics: Metrics, iteration: Array, culprit: Array) -> Tally:
        """With the metrics of an iteration without learning looked at, but not counted in."""
        values = jnp.stack([jnp.float32(metrics.get(name, 0.0)) for name in self.names])
        return self.marked(values, iteration, culprit)

    def marked(self, values: Array, iteration: Array, culprit: Array) -> Tally:
        """With what is not finite of an iteration's values noted."""
        bad = jnp.where((self.bad < 0) & ~jnp.isfinite(values), iteration, self.bad)
        return dataclasses.replace(self, bad=bad, culprit=jnp.where(self.healthy(), culprit, self.culprit))

    def restart(self, fresh: Array) -> Tally:
        """With the sums at zero if `fresh`: the last ones were logged."""
        sums, count = jnp.where(fresh, 0.0, self.sums), jnp.where(fresh, 0, self.count)
        return dataclasses.replace(self, sums=sums, count=count)

    def healthy(self) -> Array:
        """Whether every metric has been finite all along; over all runs where there is an axis of them."""
        return (self.bad < 0).all()

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


def rollout_health(space: Space, rollout: Rollout, action: Space | None = None) -> tuple[Metrics, Array]:
    """Metrics of the experience itself, which come first where a NaN spreads, and the environment that first showed
    what made one of them not finite, or, where none did, first earned it; -1: neither.

    With the `action` space legal actions are looked at too, where there are masks.
    """
    steps = rollout.steps
    seen, legal = largest(space, steps.obs, steps.next_obs), choices(action, steps)
    wrong = faults(steps.reward, seen | legal).ravel()
    culprit = jnp.where(wrong.any(), wrong.argmax() % steps.reward.shape[1], -1)
    metrics = {name: x.max() for name, x in seen.items()} | {name: x.mean() for name, x in legal.items()}
    return {**metrics, "rollout/reward_mean": steps.reward.mean()}, culprit


STRAY = "not finite, or outside of its space (a float by more than ten widths)"
FAULTS = {  # the greater the number, the earlier where trouble spreads
    3: f"showed an observation that is {STRAY}",
    2: 'allowed no action: info["mask"] was false for all choices, or for all of one part',
    1: "gave a reward that is not finite",
}
SIGNS = {"rollout/observation_max": 3, "rollout/legal_actions": 2}  # what is infinite where there is a fault


def faults(reward: Array, seen: Metrics) -> Array:
    """Which of `FAULTS` each step has, of the shape of `reward`; 0: none. `seen` is `largest` of its observations and
    `choices` of its masks."""
    wrong = jnp.where(jnp.isfinite(reward), 0, 1)
    for name, value in seen.items():
        wrong = jnp.where(jnp.isfinite(value), wrong, jnp.maximum(wrong, SIGNS[name]))
    return wrong


def step_faults(env: Any, steps: Transition) -> Array:
    """Which of `FAULTS` steps in a JAX environment have, of the shape of their rewards; 0: none."""
    seen = largest(env.observation_space, steps.obs, steps.next_obs) | choices(env.action_space, steps)
    return faults(steps.reward, seen)


def choices(action: Space | None, steps: Transition) -> Metrics:
    """How many choices were legal at each step, infinite where in some part of the action none was, or will be at a
    successor that is not the task's end; nothing where there are no masks."""
    if action is None or "mask" not in steps.info:
        return {}
    mask, following, sizes = steps.info["mask"], steps.info["next_mask"], mask_sizes(action)
    some = choosable(mask, sizes) & (choosable(following, sizes) | steps.terminated)
    return {"rollout/legal_actions": jnp.where(some, mask.sum(-1), jnp.inf)}


def largest(space: Space, *observations: PyTree) -> Metrics:
    """The largest absolute value of each of a batch of observations, infinite where one is outside of its space as no
    host environment's may be; nothing where their dtype lets nothing else in."""
    found = []
    for leaf, *values in zip(leaves(space), *map(jax.tree.leaves, observations)):
        limits, own = leaf_of(leaf, "").limits, tuple(range(-len(leaf.shape), 0))
        if limits is not None:
            for x in values:
                outside = (x < limits[0]) | (x > limits[1])
                found.append(jnp.where(outside, jnp.inf, jnp.abs(x).astype(jnp.float32)).max(own, initial=0.0))
    return {"rollout/observation_max": jnp.stack(found).max(0)} if found else {}
