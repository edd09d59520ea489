"""Looking at experience: what of it is not finite, which environment was at fault, what strays far from its space."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box

from thorndike.envs.host.layout import leaf_of
from thorndike.nets.torso import leaves
from thorndike.types import Array, Metrics, PyTree, Transition

WIDTHS = 10  # of its Box that an observation may be away from it: simulators leave theirs, LunarLander by up to 1.4

FAULTS = {  # the greater the number, the earlier where trouble spreads
    2: "showed an observation that is not finite",
    1: "gave a reward that is not finite",
}


class Health(NamedTuple):
    """What is seen of a rollout."""

    metrics: Metrics  # of the experience itself: they come first where a NaN spreads
    culprit: Array  # the environment that first showed or earned what is not finite; -1: none
    stray: Array  # the largest absolute value of an observation that lies far outside of its space; 0: none


def health(space: Space, steps: Transition) -> Health:
    """What is seen of a rollout's steps [T, E, ...], or of a batch's [B, ...]."""
    seen = sizes(space, steps.obs, steps.next_obs)
    wrong = faults(steps.reward, *seen)
    culprit = jnp.where(wrong.any(), wrong.ravel().argmax() % wrong.shape[-1], -1)
    metrics = {"rollout/observation_max": jnp.stack([x.max() for x in seen]).max()} if seen else {}
    stray = strays(space, steps.obs, steps.next_obs)
    return Health({**metrics, "rollout/reward_mean": steps.reward.mean()}, culprit, stray)


def faults(reward: Array, *sizes: Array) -> Array:
    """Which of `FAULTS` each step has, of the shape of `reward`; 0: none. `sizes` are those of its observations."""
    wrong = jnp.where(jnp.isfinite(reward), 0, 1)
    for size in sizes:
        wrong = jnp.where(jnp.isfinite(size), wrong, 2)
    return wrong


def sizes(space: Space, *observations: PyTree) -> list[Array]:
    """The largest absolute value of each observation of a batch, for each part that can be large or not finite."""
    found = []
    for leaf, *values in zip(leaves(space), *map(jax.tree.leaves, observations)):
        if bounds(leaf) is not None:
            axes = tuple(range(-len(leaf.shape or ()), 0))
            found += [jnp.abs(x).astype(jnp.float32).max(axes, initial=0.0) for x in values]
    return found


def strays(space: Space, *observations: PyTree) -> Array:
    """The largest absolute value that lies outside of its space (of floats: by more than `WIDTHS` widths); 0: none."""
    worst = jnp.float32(0)
    for leaf, *values in zip(leaves(space), *map(jax.tree.leaves, observations)):
        least, greatest = bounds(leaf) or (None, None)
        for x in values if least is not None else ():
            outside = (x < least) | (x > greatest)
            worst = jnp.maximum(worst, jnp.where(outside, jnp.abs(x).astype(jnp.float32), 0.0).max(initial=0.0))
    return worst


def bounds(space: Space) -> tuple[Any, Any] | None:
    """Least and greatest values that do not stray; None where the dtype lets nothing else in."""
    leaf = leaf_of(space, "")
    if leaf.low is None:
        return None
    if not isinstance(space, Box) or space.dtype.kind != "f":
        return leaf.low, leaf.high
    with np.errstate(over="ignore"):
        slack = WIDTHS * np.maximum(leaf.high - leaf.low, 1.0)  # a width is at least 1: constants are allowed rounding
        return leaf.low - slack, leaf.high + slack
