"""What steps earned besides their rewards: costs, successes, terms of the reward, and numbers that are only logged.

`info` says so, by name: "cost" () or (k,), "success", and the named numbers of "terms" and "log". Over an episode costs
and terms add up; of a success, and of what is logged, the episode has the value of its last step. A logged
number that is NaN there is not known of that episode: means are over the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.types import Array


class Earned(NamedTuple):
    """Numbers by name, float32; of one step, of many, or of the episodes under way."""

    sums: dict[str, Array]  # what adds up over an episode
    lasts: dict[str, Array]  # what an episode has of its last step

    @property
    def all(self) -> dict[str, Array]:
        """Both kinds."""
        return {**self.sums, **self.lasts}


def earned_in(info: dict[str, Any], lead: int) -> Earned:
    """Those in `info`, whose leaves have `lead` axes before their own."""
    sums: dict[str, Array] = {}
    lasts: dict[str, Array] = {}
    if "cost" in info:
        cost = jnp.asarray(info["cost"], jnp.float32)
        several = cost.ndim > lead
        sums |= {f"cost_{i}": cost[..., i] for i in range(cost.shape[-1])} if several else {"cost": cost}
    sums |= info.get("terms", {})
    if "success" in info:
        lasts["success"] = info["success"]
    lasts |= info.get("log", {})
    return jax.tree.map(jnp.float32, Earned(sums, lasts))


def metric_of(name: str, of: str = "rollout") -> str:
    """What the mean over episodes is called in metrics: of training, or "eval"."""
    return f"{of}/success_rate" if name == "success" else f"{of}/ep_{name}_mean"


def mean_known(values: np.ndarray, axis: int | None = None) -> Any:
    """The mean of what is not NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis) / np.maximum(count, 1), np.nan)


def nothing_earned(info: dict[str, Any], n: int) -> Earned:
    """What n environments have earned before their first step, [n] each; `info` is that of steps [n, ...]."""
    return jax.tree.map(lambda _: jnp.zeros(n), jax.eval_shape(lambda info: earned_in(info, lead=1), info))


def so_far(running: Earned, step: Earned, over: Array) -> Earned:
    """With one step counted in, but where the episode is `over`."""
    sums = jax.tree.map(lambda total, x: total + jnp.where(over, 0.0, x), running.sums, step.sums)
    lasts = jax.tree.map(lambda last, x: jnp.where(over, last, x), running.lasts, step.lasts)
    return Earned(sums, lasts)
