"""Planners that sample sequences of actions and move towards the good ones: random shooting, CEM, iCEM and MPPI.

Each is a config with one method, `plan(score, mean, key)`: it improves a sequence `mean` [H, D] of H actions of D
numbers in [-1, 1], where `score` tells what sequences [P, H, D] earn, [P]. `score` is a function of the caller, of a
simulator or of a learned model, so one planner serves both. A score that is not a number counts as the worst of all.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import config, require
from thorndike.domains import Fraction, NonNegative, Positive, Static
from thorndike.ops.keys import normal
from thorndike.types import Array

Score = Callable[[Array], Array]  # [P, H, D] -> [P]

WORST = -1e30  # a score in the place of NaN and -inf: finite, so that differences of scores are


def scored(score: Score, sequences: Array) -> Array:
    """The scores [P] of sequences [P, H, D]; `WORST` where they are not finite."""
    found = score(sequences)
    return jnp.where(jnp.isfinite(found), found, WORST)


def elite(scores: Array, n: int) -> Array:
    """The indices of the n best scores, the best one first, [n]."""
    return jax.lax.top_k(scores, n)[1]


@config
class RandomShooting:
    """The best of uniformly random sequences. It does not go on from an earlier plan."""

    population: int = 192  # sequences

    def check(self) -> None:
        """At least one sequence."""
        require(self.population > 0, "RandomShooting.population must be positive")

    def plan(self, score: Score, mean: Array, key: Array) -> Array:
        """The best of `population` sequences, [H, D]."""
        sequences = jax.random.uniform(key, (self.population, *mean.shape), minval=-1.0, maxval=1.0)
        return sequences[scored(score, sequences).argmax()]


@config
class CEM:
    """The cross-entropy method (Rubinstein 1999; for planning: Chua et al. 2018).

    a ~ N(μ, σ²), clipped to [-1, 1];   μ <- m μ + (1 - m) mean of the elites;   σ <- m σ + (1 - m) their deviation
    """

    population: int = 64  # sequences in each iteration
    iterations: int = 3
    elites: int = 8  # the best sequences of an iteration
    momentum: Fraction = 0.1  # m
    std: Positive = 1.0  # σ at first; an action's range is [-1, 1]

    def check(self) -> None:
        """Sizes that fit together."""
        check_sizes(self, 0 < self.elites <= self.population)

    def plan(self, score: Score, mean: Array, key: Array) -> Array:
        """The mean μ [H, D] after the last iteration; what the sequences of one go by is `mean` at first."""

        def iteration(carry: tuple[Array, Array], key: Array):
            mean, std = carry
            sequences = jnp.clip(mean + std * normal(key, (self.population, *mean.shape)), -1.0, 1.0)
            best = sequences[elite(scored(score, sequences), self.elites)]
            m = self.momentum
            return (m * mean + (1 - m) * best.mean(0), m * std + (1 - m) * best.std(0)), None

        start = mean, jnp.full(mean.shape, self.std)
        (mean, _), _ = jax.lax.scan(iteration, start, jax.random.split(key, self.iterations))
        return mean


@config
class ICEM:
    """The improved cross-entropy method, iCEM (Pinneri et al. 2020): CEM with noise that is coloured over time.

    The power of the noise falls with its frequency as 1 / f^β, so that sequences push one way for several steps. The
    population shrinks by `decay` from one iteration to the next, some elites stay in it, the mean is one of the last
    population, and the plan is the best sequence of all. From one step to the next this keeps the plan alone.
    """

    population: int = 48  # sequences in the first iteration
    iterations: int = 3
    elites: int = 6  # the best sequences of an iteration
    momentum: Fraction = 0.1  # as CEM's
    std: Positive = 0.5  # σ at first
    noise: NonNegative = 2.0  # β; 0: white noise
    decay: Static = 1.3  # each population is that many times smaller than the last one, but has 2 · elites at least
    keep: Static = 0.3  # share of the elites that are part of the next population

    def check(self) -> None:
        """Sizes that fit together."""
        check_sizes(self, 0 < 2 * self.elites <= self.population)
        require(self.decay >= 1 and 0 <= self.keep <= 1, "ICEM.decay must be 1 or more, and ICEM.keep lie in [0, 1]")

    def plan(self, score: Score, mean: Array, key: Array) -> Array:
        """The best sequence that was found, [H, D]."""
        m, std, kept = self.momentum, jnp.full(mean.shape, self.std), mean[None]
        for i, nkey in enumerate(jax.random.split(key, self.iterations)):
            n = max(int(self.population * self.decay**-i), 2 * self.elites)
            drawn = mean + std * coloured(nkey, (n, mean.shape[0], mean.shape[1]), self.noise)
            last = [mean[None]] if i + 1 == self.iterations else []
            sequences = jnp.clip(jnp.concatenate([drawn, kept, *last]), -1.0, 1.0)
            best = sequences[elite(scored(score, sequences), self.elites)]
            mean, std = m * mean + (1 - m) * best.mean(0), m * std + (1 - m) * best.std(0)
            kept = best[: max(1, round(self.keep * self.elites))]
        return kept[0]


@config
class MPPI:
    """Model predictive path integral control (Williams et al. 2017), with several iterations.

    a_i ~ N(μ, σ²), clipped to [-1, 1];   μ <- Σ_i w_i a_i,   w_i ∝ exp(R_i / λ)
    """

    population: int = 64  # sequences in each iteration
    iterations: int = 3
    temperature: Positive = 1.0  # λ, in units of return: towards 0 the best sequence alone counts
    std: Positive = 0.6  # σ

    def check(self) -> None:
        """Positive sizes."""
        check_sizes(self, True)

    def plan(self, score: Score, mean: Array, key: Array) -> Array:
        """The mean μ [H, D] after the last iteration."""

        def iteration(mean: Array, key: Array):
            sequences = jnp.clip(mean + self.std * normal(key, (self.population, *mean.shape)), -1.0, 1.0)
            return jnp.tensordot(weights(scored(score, sequences), self.temperature), sequences, 1), None

        return jax.lax.scan(iteration, mean, jax.random.split(key, self.iterations))[0]


Planner = RandomShooting | CEM | ICEM | MPPI


def weights(scores: Array, temperature: Array | float) -> Array:
    """exp(R / λ) of scores R [P], divided by their sum."""
    return jax.nn.softmax((scores - scores.max()) / temperature)


def coloured(key: Array, shape: tuple[int, int, int], exponent: Array | float) -> Array:
    """Gaussian noise [P, H, D] of variance 1 whose power at frequency f along H is proportional to 1 / f^exponent
    (Timmer & König 1995); below 1 / H it is that at 1 / H."""
    p, h, d = shape
    if h == 1:
        return normal(key, shape)
    frequency = np.maximum(np.fft.rfftfreq(h), 1 / h)
    scale = jnp.asarray(frequency, jnp.float32) ** (-exponent / 2)
    real, imaginary = normal(key, (2, p, len(frequency), d))
    counted = np.full(len(frequency), 4.0)  # a frequency and its negative; 0 and the highest, of even H, are alone
    counted[0] = 1.0
    if h % 2 == 0:
        counted[-1] = 1.0
    std = jnp.sqrt((counted * scale**2).sum()) / h
    return jnp.fft.irfft(scale[:, None] * (real + 1j * imaginary), h, 1) / std


def shifted(plan: Array, first: Array) -> Array:
    """Plans [E, H, D] one step later: without their first action, 0 as their last; all 0 where an episode begins."""
    later = jnp.concatenate([plan[:, 1:], jnp.zeros_like(plan[:, :1])], 1)
    return jnp.where(first[:, None, None], 0.0, later)


def check_sizes(planner: CEM | ICEM | MPPI, fits: bool) -> None:
    """Positive sizes, and elites that are some of the population."""
    name = type(planner).__name__
    require(planner.population > 0 and planner.iterations > 0, f"{name}: population and iterations must be positive")
    require(fits, f"{name}: elites must be positive and at most the population, half of it for ICEM")
