"""Action distributions. Parameters carry leading batch axes; an action's own axes are summed over.

Each has `sample(key)`, `mode()`, `log_prob(action)`, `entropy()`, and `told()`: what there is to show of it, by name.
Those without a tanh have `kl(other)`, the divergence KL(self || other) from another of their kind.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.ops.keys import normal
from thorndike.types import Array

LOG_2PI = float(np.log(2 * np.pi))
ILLEGAL = -1e9  # logit of an action that the mask rules out: finite, so that no gradient is NaN


class Categorical(NamedTuple):
    """One choice out of A; logits [..., A], actions int [...]."""

    logits: Array

    @property
    def log_probs(self) -> Array:
        """Normalised log-probabilities [..., A]."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, key: Array) -> Array:
        """By the Gumbel-max trick."""
        return jax.random.categorical(key, self.logits)

    def mode(self) -> Array:
        """The likeliest action."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Array) -> Array:
        """log π(a), [...]."""
        one_hot = action[..., None] == jnp.arange(self.logits.shape[-1])
        return jnp.where(one_hot, self.log_probs, 0.0).sum(-1)

    def entropy(self) -> Array:
        """-Σ π log π, [...]."""
        log_probs = self.log_probs
        return -(jnp.exp(log_probs) * log_probs).sum(-1)

    def kl(self, other: Categorical) -> Array:
        """Σ π (log π - log π'), [...]."""
        log_probs = self.log_probs
        return (jnp.exp(log_probs) * (log_probs - other.log_probs)).sum(-1)

    def told(self) -> dict[str, Array]:
        """Probabilities [..., A] and entropy, where 0 log 0 is 0."""
        p = jnp.exp(self.log_probs)
        return {"probabilities": p, "entropy": -jnp.where(p > 0, p * self.log_probs, 0.0).sum(-1)}


class MultiCategorical(NamedTuple):
    """D independent choices; logits [..., D, A] (short ones padded with `ILLEGAL`), actions int [..., D]."""

    logits: Array

    def sample(self, key: Array) -> Array:
        """One draw for each of the D choices."""
        return Categorical(self.logits).sample(key)

    def mode(self) -> Array:
        """The likeliest of each choice."""
        return Categorical(self.logits).mode()

    def log_prob(self, action: Array) -> Array:
        """Summed over the D choices."""
        return Categorical(self.logits).log_prob(action).sum(-1)

    def entropy(self) -> Array:
        """Summed over the D choices."""
        return Categorical(self.logits).entropy().sum(-1)

    def kl(self, other: MultiCategorical) -> Array:
        """Summed over the D choices."""
        return Categorical(self.logits).kl(Categorical(other.logits)).sum(-1)

    def told(self) -> dict[str, Array]:
        """Probabilities [..., D, A], 0 where a choice has fewer than A, and entropy."""
        return {"probabilities": jnp.exp(Categorical(self.logits).log_probs), "entropy": self.entropy()}


class Bernoulli(NamedTuple):
    """D independent bits; logits [..., D], actions int8 [..., D]."""

    logits: Array

    def sample(self, key: Array) -> Array:
        """One draw for each bit."""
        return jax.random.bernoulli(key, jax.nn.sigmoid(self.logits)).astype(jnp.int8)

    def mode(self) -> Array:
        """The likelier value of each bit."""
        return (self.logits > 0).astype(jnp.int8)

    def log_prob(self, action: Array) -> Array:
        """Summed over the bits."""
        return jnp.where(action == 1, jax.nn.log_sigmoid(self.logits), jax.nn.log_sigmoid(-self.logits)).sum(-1)

    def entropy(self) -> Array:
        """Summed over the bits."""
        p = jax.nn.sigmoid(self.logits)
        return -(p * jax.nn.log_sigmoid(self.logits) + (1 - p) * jax.nn.log_sigmoid(-self.logits)).sum(-1)

    def kl(self, other: Bernoulli) -> Array:
        """Summed over the bits."""
        p, ours, theirs = jax.nn.sigmoid(self.logits), self.logits, other.logits
        one = jax.nn.log_sigmoid(ours) - jax.nn.log_sigmoid(theirs)
        zero = jax.nn.log_sigmoid(-ours) - jax.nn.log_sigmoid(-theirs)
        return (p * one + (1 - p) * zero).sum(-1)

    def told(self) -> dict[str, Array]:
        """Probabilities of a 1 [..., D], and entropy."""
        return {"probabilities": jax.nn.sigmoid(self.logits), "entropy": self.entropy()}


class Normal(NamedTuple):
    """Diagonal Gaussian; mean and log_std [..., D]."""

    mean: Array
    log_std: Array

    def sample(self, key: Array) -> Array:
        """mean + std · ε."""
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)

    def mode(self) -> Array:
        """The mean."""
        return self.mean

    def log_prob(self, action: Array) -> Array:
        """Summed over dimensions."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -(0.5 * z**2 + self.log_std + 0.5 * LOG_2PI).sum(-1)

    def entropy(self) -> Array:
        """Σ log σ + ½ log 2πe."""
        return jnp.broadcast_to(self.log_std + 0.5 * (1 + LOG_2PI), self.mean.shape).sum(-1)

    def kl(self, other: Normal) -> Array:
        """Σ log σ'/σ + (σ² + (μ - μ')²) / 2σ'² - ½."""
        ratio, z = jnp.exp(2 * (self.log_std - other.log_std)), (self.mean - other.mean) * jnp.exp(-other.log_std)
        return (other.log_std - self.log_std + 0.5 * (ratio + z**2 - 1)).sum(-1)

    def told(self) -> dict[str, Array]:
        """Mean and standard deviation [..., D], and entropy."""
        std = jnp.broadcast_to(jnp.exp(self.log_std), self.mean.shape)
        return {"mean": self.mean, "std": std, "entropy": self.entropy()}


class TanhNormal(NamedTuple):
    """tanh of a diagonal Gaussian (Haarnoja et al. 2018, appendix C); actions in (-1, 1)."""

    mean: Array
    log_std: Array

    def sample_and_log_prob(self, key: Array) -> tuple[Array, Array]:
        """A reparameterised action [..., D] and its log-density [...].

        log π(a) = log N(u; μ, σ) - Σ log(1 - tanh² u), the last as 2 (log 2 - u - softplus(-2u)), which is exact
        where tanh saturates.
        """
        u = self.mean + jnp.exp(self.log_std) * normal(key, self.mean.shape)
        correction = 2.0 * (np.log(2.0) - u - jax.nn.softplus(-2.0 * u))
        return jnp.tanh(u), Normal(self.mean, self.log_std).log_prob(u) - correction.sum(-1)

    def sample(self, key: Array) -> Array:
        """A reparameterised action."""
        return self.sample_and_log_prob(key)[0]

    def mode(self) -> Array:
        """tanh of the mean: the median, and the usual greedy action."""
        return jnp.tanh(self.mean)

    def log_prob(self, action: Array) -> Array:
        """log π(a) of actions in (-1, 1), [...]: those at the ends count as 10⁻⁶ away from them."""
        u = jnp.arctanh(jnp.clip(action, -1.0 + 1e-6, 1.0 - 1e-6))
        correction = 2.0 * (np.log(2.0) - u - jax.nn.softplus(-2.0 * u))
        return Normal(self.mean, self.log_std).log_prob(u) - correction.sum(-1)

    def told(self) -> dict[str, Array]:
        """Mean and standard deviation before the tanh [..., D]."""
        return {"mean": self.mean, "std": jnp.exp(self.log_std)}


class OneHot(NamedTuple):
    """S independent choices as one-hot vectors, one after the other; logits [..., S, C], draws float [..., S · C]."""

    logits: Array

    def sample(self, key: Array) -> Array:
        """A draw whose gradient is that of the probabilities (straight-through; Bengio et al. 2013)."""
        p = jax.nn.softmax(self.logits)
        drawn = jax.nn.one_hot(jax.random.categorical(key, self.logits), p.shape[-1])
        return _row(drawn + p - jax.lax.stop_gradient(p))

    def mode(self) -> Array:
        """The likeliest of each choice."""
        return _row(jax.nn.one_hot(self.logits.argmax(-1), self.logits.shape[-1]))

    def entropy(self) -> Array:
        """Summed over the S choices."""
        return Categorical(self.logits).entropy().sum(-1)

    def kl(self, other: OneHot) -> Array:
        """Summed over the S choices."""
        return Categorical(self.logits).kl(Categorical(other.logits)).sum(-1)


def _row(x: Array) -> Array:
    return x.reshape(*x.shape[:-2], -1)


def unimix(logits: Array, share: Array | float) -> Array:
    """Logits of (1 - ε) softmax(logits) + ε / C, with ε = `share`, on the last axis: no probability is 0."""
    return jnp.log((1.0 - share) * jax.nn.softmax(logits) + share / logits.shape[-1])


class Joint(NamedTuple):
    """Independent parts of one action, a vector [..., D] of one after the other: choices, bits and numbers."""

    parts: tuple[Any, ...]

    def split(self, action: Array) -> list[Array]:
        """Each part's own action."""
        found, at = [], 0
        for part in self.parts:
            if isinstance(part, Categorical):
                found.append(action[..., at].astype(jnp.int32))
                at += 1
                continue
            width = part.mean.shape[-1] if isinstance(part, Normal) else part.logits.shape[-1]
            width = part.logits.shape[-2] if isinstance(part, MultiCategorical) else width
            values = action[..., at : at + width]
            found.append(values if isinstance(part, Normal) else values.astype(jnp.int32))
            at += width
        return found

    def _join(self, actions: list[Array]) -> Array:
        columns = [a[..., None] if isinstance(part, Categorical) else a for part, a in zip(self.parts, actions)]
        return jnp.concatenate([column.astype(jnp.float32) for column in columns], -1)

    def sample(self, key: Array) -> Array:
        """A draw of each part, float32."""
        keys = jax.random.split(key, len(self.parts))
        return self._join([part.sample(key) for part, key in zip(self.parts, keys)])

    def mode(self) -> Array:
        """The mode of each part."""
        return self._join([part.mode() for part in self.parts])

    def log_prob(self, action: Array) -> Array:
        """Summed over the parts."""
        return sum(part.log_prob(a) for part, a in zip(self.parts, self.split(action)))  # type: ignore[return-value]

    def entropy(self) -> Array:
        """Summed over the parts."""
        return sum(part.entropy() for part in self.parts)  # type: ignore[return-value]

    def kl(self, other: Joint) -> Array:
        """Summed over the parts."""
        return sum(ours.kl(theirs) for ours, theirs in zip(self.parts, other.parts))  # type: ignore[return-value]

    def told(self) -> dict[str, Array]:
        """What there is to show of each part, its number before the name, and the entropy of all."""
        parts = {f"{i}/{name}": x for i, part in enumerate(self.parts) for name, x in part.told().items()}
        return {**parts, "entropy": self.entropy()}
