"""A penalty on the KL divergence between policies, whose weight adapts."""

from __future__ import annotations

import jax.numpy as jnp

from thorndike.configuration import config
from thorndike.domains import Positive
from thorndike.types import Array

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
