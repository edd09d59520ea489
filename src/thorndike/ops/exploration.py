"""Exploration over discrete action values: epsilon-greedy and softmax, annealed linearly or by any schedule."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from thorndike.configuration import config
from thorndike.domains import Fraction, Interval
from thorndike.ops.distributions import ILLEGAL
from thorndike.types import Array

Temperature = Annotated[float, Interval(1e-8, 1e8)]


def linear(start: Any, end: Any, fraction: Any, progress: Array) -> Array:
    """From `start` to `end` over the first `fraction` of the run; `start` where `end` is None. `progress` in [0, 1]."""
    if end is None:
        return jnp.float32(start)
    return start + (end - start) * jnp.clip(progress / jnp.maximum(fraction, 1e-8), 0.0, 1.0)


def legal(values: Array, mask: Array | None) -> Array:
    """Values [..., A] with illegal actions pushed below every legal one."""
    return values if mask is None else jnp.where(mask, values, ILLEGAL)


def greedy_probabilities(values: Array, epsilon: Array | float, mask: Array | None = None) -> Array:
    """π(a) of epsilon-greedy with ties shared evenly, [..., A]."""
    allowed = jnp.ones(values.shape, bool) if mask is None else mask
    values = legal(values, mask)
    best = values == values.max(-1, keepdims=True)
    uniform = allowed / allowed.sum(-1, keepdims=True)
    return (1 - epsilon) * best / best.sum(-1, keepdims=True) + epsilon * uniform


def greedy(values: Array, mask: Array | None = None) -> Array:
    """π(a) of the best legal action, the first of equal ones, [..., A]."""
    return jax.nn.one_hot(legal(values, mask).argmax(-1), values.shape[-1])


def choose_best(key: Array, values: Array, mask: Array | None = None) -> Array:
    """One of the best legal actions [...] for values [..., A], equal ones with equal probability."""
    values = legal(values, mask)
    random = jax.random.uniform(key, values.shape)
    return jnp.where(values == values.max(-1, keepdims=True), random, -1.0).argmax(-1)


def softmax_probabilities(values: Array, temperature: Array, mask: Array | None = None) -> Array:
    """π(a) ∝ exp(Q(a) / τ), [..., A]."""
    return jax.nn.softmax(softmax_logits(values, temperature, mask))


def softmax_logits(values: Array, temperature: Array | float, mask: Array | None = None) -> Array:
    """Q(a) / τ, less that of the best legal action: the others' may be as low as floats go."""
    return legal((values - legal(values, mask).max(-1, keepdims=True)) / temperature, mask)


@config
class Epsilon:
    """Epsilon-greedy: with probability ε a uniformly random legal action, else the best."""

    start: Fraction = 1.0  # ε; a schedule where `end` is None
    end: Fraction | None = 0.05  # None: ε is `start` all along
    fraction: Fraction = 0.5  # of the run, over which ε goes from start to end

    def level(self, progress: Array) -> Array:
        """ε at this point of the run."""
        return linear(self.start, self.end, self.fraction, progress)

    def probabilities(self, values: Array, level: Array, mask: Array | None = None) -> Array:
        """π(a) for Q-values [..., A]."""
        return greedy_probabilities(values, level, mask)

    def choose(self, key: Array, values: Array, level: Array, mask: Array | None = None) -> Array:
        """Actions [...] for Q-values [..., A]; ties are broken at random."""
        coin, uniform = jax.random.split(key)
        values = legal(values, mask)
        random = jax.random.uniform(uniform, values.shape)
        best = jnp.where(values == values.max(-1, keepdims=True), random, -1.0)
        anything = random if mask is None else jnp.where(mask, random, -1.0)
        explore = jax.random.uniform(coin, values.shape[:-1]) < level
        return jnp.where(explore, anything.argmax(-1), best.argmax(-1))


@config
class Softmax:
    """Boltzmann exploration: π(a) ∝ exp(Q(a) / τ)."""

    start: Temperature = 1.0  # temperature τ, in units of reward; a schedule where `end` is None
    end: Temperature | None = 0.05  # None: τ is `start` all along
    fraction: Fraction = 0.5  # of the run, over which τ goes from start to end

    def level(self, progress: Array) -> Array:
        """τ at this point of the run."""
        return linear(self.start, self.end, self.fraction, progress)

    def probabilities(self, values: Array, level: Array, mask: Array | None = None) -> Array:
        """π(a) for Q-values [..., A]."""
        return softmax_probabilities(values, level, mask)

    def choose(self, key: Array, values: Array, level: Array, mask: Array | None = None) -> Array:
        """Actions [...] for Q-values [..., A]."""
        return jax.random.categorical(key, softmax_logits(values, level, mask))
