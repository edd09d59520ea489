"""Munchausen reinforcement learning: the policy's own log-probability as a reward (Vieillard et al. 2020)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.domains import Fraction, Positive
from thorndike.ops.exploration import softmax_logits
from thorndike.types import Array


@config
class Munchausen:
    """The two terms that M-DQN adds (eq. 3 and 4): r + α [τ log π(a|s)] and E[q⁻(s', a') - τ log π(a'|s')].

    π = softmax(q⁻ / τ), of the target network. [·] is cut to [l₀, 0].
    """

    scale: Fraction = 0.9  # α
    temperature: Positive = 0.03  # τ, in units of reward
    low: float = -1.0  # l₀: the least bonus, before α

    def check(self) -> None:
        """The least bonus is not above 0."""
        require(bool(jnp.all(jnp.asarray(self.low) <= 0)), f"Munchausen.low must be 0 or less, got {self.low}")

    def log_policy(self, values: Array, mask: Array | None) -> Array:
        """log π of values q⁻ [..., A]; far below every other where an action is not legal."""
        return jax.nn.log_softmax(softmax_logits(values, self.temperature, mask))

    def bonus(self, values: Array, action: Array, mask: Array | None = None) -> Array:
        """α [τ log π(a|s)], [...], of q⁻(s, ·) [..., A]."""
        log = jnp.take_along_axis(self.log_policy(values, mask), action[..., None].astype(jnp.int32), -1)[..., 0]
        return self.scale * jnp.clip(self.temperature * log, self.low, 0.0)

    def value(self, values: Array, mask: Array | None = None) -> Array:
        """Σ_a π(a|s') (q⁻(s', a) - τ log π(a|s')), [...]."""
        log = self.log_policy(values, mask)
        return jnp.where(jnp.exp(log) > 0, jnp.exp(log) * (values - self.temperature * log), 0.0).sum(-1)
