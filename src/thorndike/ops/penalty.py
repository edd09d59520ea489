"""A penalty on the KL divergence between policies, whose weight adapts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from thorndike.configuration import config
from thorndike.domains import Positive
from thorndike.ops.losses import Added
from thorndike.types import Array, Metrics

LEAST, MOST = 1e-6, 1e6  # of the weight: beyond these it could not return in time


@config
class KLPenalty:
    """β KL(π_old || π), with β adapted after each rollout so that the divergence stays near a target (Schulman et al.
    2017, section 4)."""

    target: Positive = 0.01  # d_targ, the divergence that a rollout's updates should lead to
    start: Positive = 1.0  # β before the first rollout

    def adapted(self, beta: Array, kl: Array) -> Array:
        """β / 2 where KL < d_targ / 1.5, 2 β where KL > 1.5 d_targ, else β."""
        factor = jnp.where(kl < self.target / 1.5, 0.5, jnp.where(kl > self.target * 1.5, 2.0, 1.0))
        return jnp.clip(factor * beta, LEAST, MOST)


def penalised(
    penalty: KLPenalty | None, beta: Array, policy: Callable[[Any], Any], params: Any, shape: tuple[int, ...]
) -> tuple[Added, ...]:
    """β KL(π_old || π) beside a loss; nothing without a penalty.

    Args:
        policy: π at all steps [T, E] of a rollout, by parameters.
        params: those of π_old, which the rollout begins its updates with.
        shape: (T, E). Parameters of a distribution that are one for all states are repeated for each.
    """
    if penalty is None:
        return ()

    def loss(params: Any, more: Any, pi: Any, old: Any) -> tuple[Array, Metrics]:
        return beta * old.kl(pi).mean(), {}

    each = lambda x: x if x.ndim > len(shape) else jnp.broadcast_to(x, (*shape, *x.shape))  # noqa: E731
    return (Added(loss, jax.tree.map(each, policy(params))),)


def renewed(
    penalty: KLPenalty | None, beta: Array, policy: Callable[[Any], Any], before: Any, after: Any
) -> tuple[Array, Metrics]:
    """β for the next rollout, by the divergence that this one's updates led to, and both as metrics.

    `policy` is π at all steps of the rollout, by parameters: those `before` the updates and `after` them.
    """
    if penalty is None:
        return beta, {}
    kl = policy(before).kl(policy(after)).mean()
    beta = penalty.adapted(beta, kl)
    return beta, {"kl": kl, "penalty": beta}
