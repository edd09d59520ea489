"""Looking at experience: what of it is not finite, which environment was at fault, what strays far from its space."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box

from thorndike.drivers.earned import earned_in
from thorndike.envs.host.layout import leaf_of
from thorndike.envs.masks import choosable, mask_sizes
from thorndike.nets.torso import leaves
from thorndike.types import Array, Metrics, PyTree, Transition

WIDTHS = 10  # of its Box that an observation may be away from it: simulators leave theirs, LunarLander by up to 1.4

FAULTS = {  # the greater the number, the earlier where trouble spreads
    4: "showed an observation that is not finite",
    3: 'allowed no action: info["mask"] was false for all choices, or for all of one part',
    2: "gave a cost, or a term of the reward, that is not finite",
    1: "gave a reward that is not finite",
}


class Health(NamedTuple):
    """What is seen of a rollout."""

    metrics: Metrics  # of the experience itself: they come first where a NaN spreads
    culprit: Array  # the environment that first showed or earned what is not finite; -1: none
    stray: Array  # the largest absolute value of an observation that lies far outside of its space; 0: none


def health(space: Space, steps: Transition, action: Space | None = None) -> Health:
    """What is seen of a rollout's steps [T, E, ...], or of a batch's [B, ...]; with the `action` space, whether there
    was always something legal to do."""
    seen, legal = sizes(space, steps.obs, steps.next_obs), choices(action, steps)
    wrong = _worst(steps, seen, legal)
    culprit = jnp.where(wrong.any(), wrong.ravel().argmax() % wrong.shape[-1], -1)
    metrics = {"rollout/observation_max": jnp.stack([x.max() for x in seen]).max()} if seen else {}
    if legal:
        metrics["rollout/legal_actions"] = legal[0].mean()
    if earned := earned_in(steps.info, steps.reward.ndim).sums:
        metrics["rollout/earned_mean"] = jnp.stack([x.mean() for x in earned.values()]).sum()
    stray = strays(space, steps.obs, steps.next_obs)
    return Health({**metrics, "rollout/reward_mean": steps.reward.mean()}, culprit, stray)


def step_faults(env: Any, steps: Transition) -> Array:
    """Which of `FAULTS` steps in a JAX environment have, of the shape of their rewards; 0: none."""
    return _worst(steps, sizes(env.observation_space, steps.obs, steps.next_obs), choices(env.action_space, steps))


def _worst(steps: Transition, seen: list[Array], legal: list[Array]) -> Array:
    wrong = jnp.zeros(steps.reward.shape, jnp.int32)
    earned = earned_in(steps.info, steps.reward.ndim).sums
    for kind, values in ((1, [steps.reward]), (2, list(earned.values())), (3, legal), (4, seen)):
        for value in values:
            wrong = jnp.where(jnp.isfinite(value), wrong, kind)
    return wrong


def choices(action: Space | None, steps: Transition) -> list[Array]:
    """How many choices were legal at each step, infinite where in some part of the action none was, or will be at a
    successor that is not the task's end; nothing where there are no masks."""
    if action is None or "mask" not in steps.info:
        return []
    mask, following, parts = steps.info["mask"], steps.info["next_mask"], mask_sizes(action)
    some = choosable(mask, parts) & (choosable(following, parts) | steps.terminated)
    return [jnp.where(some, mask.sum(-1), jnp.inf)]


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
