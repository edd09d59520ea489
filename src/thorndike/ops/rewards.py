"""Rewards over the running standard deviation of the discounted return (Engstrom et al. 2020, section 3)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from thorndike.ops.returns import discounted_sums
from thorndike.ops.statistics import Running, running
from thorndike.types import Array, Transition


class Scaling(NamedTuple):
    """Statistics of discounted returns, and the returns so far."""

    returns: Running
    sums: Array  # [E]

    @property
    def scale(self) -> Array:
        """What rewards are divided by."""
        return self.returns.std


def scaling(num_envs: int) -> Scaling:
    """Nothing seen yet."""
    return Scaling(running(), jnp.zeros(num_envs))


def scaled(before: Scaling | tuple[()], steps: Transition, discount: Array | float):
    """The rewards of steps [T, E] divided by the scale and clipped to [-10, 10], and the scaling with them counted in;
    rewards as they are where `before` is ()."""
    if not before:
        return steps.reward, ()
    sums = jnp.where(steps.first[0], 0.0, before.sums)  # a run that was resumed begins new episodes
    sums, history = discounted_sums(sums, steps.reward, steps.ended, discount)
    after = Scaling(before.returns.update(history), sums)
    return jnp.clip(steps.reward / after.scale, -10, 10), after
