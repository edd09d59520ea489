"""Noise of continuous actions: Gaussian, Ornstein-Uhlenbeck, pink, and such that depends on the state.

Each is a config with `carry(n, dimensions)`, what it remembers before the first step of n environments, and
`draw(key, carry, first, dimensions)`, the noise of one step [E, D] and what it remembers then. Where `first` [E] is set
an episode begins, and the noise begins anew. Noise is in network units: an action's range is [-1, 1]. `StateDependent`
is not added to actions but part of a policy, and has methods of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from thorndike.configuration import config, require
from thorndike.domains import NonNegative, Positive
from thorndike.ops.keys import normal
from thorndike.schedules import ends
from thorndike.types import Array, PyTree


@config
class Gaussian:
    """White noise N(0, std²), independent in every step."""

    std: NonNegative = 0.1  # standard deviation, in halves of an action's range

    def carry(self, n: int, dimensions: int) -> tuple[()]:
        """Nothing."""
        return ()

    def draw(self, key: Array, carry: PyTree, first: Array, dimensions: int) -> tuple[Array, PyTree]:
        """Noise [E, D]."""
        return self.std * normal(key, (first.shape[0], dimensions)), carry


@config
class OrnsteinUhlenbeck:
    """Brown noise that is drawn back to 0 (Uhlenbeck & Ornstein 1930; Lillicrap et al. 2016).

    x <- x - θ x Δt + σ √Δt N(0, 1),   from x = 0; its standard deviation tends to σ / √(2θ - θ² Δt).
    """

    theta: Positive = 0.15  # θ: its memory is 1 / (θ Δt) steps long
    sigma: NonNegative = 0.2  # σ
    dt: Positive = 1.0  # Δt, time between two steps; Stable-Baselines3's is 0.01

    def check(self) -> None:
        """It is drawn back, and not beyond."""
        theta, dt = (np.max(ends(x)) for x in (self.theta, self.dt))
        strongest = theta * dt
        require(strongest < 2, f"OrnsteinUhlenbeck grows without bounds where theta · dt is 2 or more: {strongest:g}")

    def carry(self, n: int, dimensions: int) -> Array:
        """x = 0, [n, D]."""
        return jnp.zeros((n, dimensions))

    def draw(self, key: Array, carry: Array, first: Array, dimensions: int) -> tuple[Array, Array]:
        """The next x [E, D], twice."""
        x = jnp.where(first[:, None], 0.0, carry)
        x = x - self.theta * self.dt * x + self.sigma * jnp.sqrt(self.dt) * normal(key, x.shape)
        return x, x


@config
class Pink:
    """Noise whose power is inversely proportional to its frequency (Eberhard et al. 2023).

    A sum of first-order autoregressive processes, each with the memory of one of `scales` and all with the same
    variance (van der Ziel 1950). The paper draws whole episodes by a Fourier transform; these need no episode's length.
    """

    std: NonNegative = 0.3  # standard deviation, in halves of an action's range
    scales: tuple[int, ...] = (1, 4, 16, 64, 256)  # steps: the longest should be about a fourth of an episode

    def check(self) -> None:
        """Memories of some steps."""
        require(bool(self.scales) and min(self.scales) > 0, f"Pink.scales must be positive, got {self.scales}")

    def carry(self, n: int, dimensions: int) -> Array:
        """The processes at 0, [n, K, D]."""
        return jnp.zeros((n, len(self.scales), dimensions))

    def draw(self, key: Array, carry: Array, first: Array, dimensions: int) -> tuple[Array, Array]:
        """Noise [E, D] and the processes; where episodes begin these are drawn from their stationary distribution."""
        keep = jnp.exp(-1.0 / jnp.asarray(self.scales, jnp.float32))[:, None]
        keep = jnp.where(first[:, None, None], 0.0, keep)
        processes = keep * carry + jnp.sqrt(1.0 - keep**2) * normal(key, carry.shape)
        return self.std * processes.sum(1) / np.sqrt(len(self.scales)), processes


class Matrices(NamedTuple):
    """Standard normal noise for each weight [E, F, D], and how many steps it has been used for [E]."""

    noise: Array
    age: Array


@config
class StateDependent:
    """Generalised state-dependent exploration (Raffin et al. 2021): noise that is a linear function of features.

    u = μ(s) + φ(s)ᵀ (σ ⊙ ε) with σ [F, D] learned and ε ~ N(0, 1) drawn for some steps at once: in the meantime an
    action is a smooth function of the state. Seen from one state, u ~ N(μ(s), Σ_i φ_i(s)² σ_i²).
    """

    every: int | None = 8  # steps between two draws of ε; None: one for each episode
    log_std: float = -3.0  # initial log σ

    def check(self) -> None:
        """Some steps."""
        require(self.every is None or self.every > 0, f"StateDependent.every must be positive, got {self.every}")

    def carry(self, n: int, features: int, dimensions: int) -> Matrices:
        """Nothing drawn yet."""
        return Matrices(jnp.zeros((n, features, dimensions)), jnp.zeros(n, jnp.int32))

    def draw(self, key: Array, carry: Matrices, first: Array) -> Matrices:
        """ε for this step, drawn anew where an episode begins, after `every` steps, and where nothing was drawn."""
        due = first | (carry.age == 0)
        due = due if self.every is None else due | (carry.age >= self.every)
        noise = jnp.where(due[:, None, None], normal(key, carry.noise.shape), carry.noise)
        return Matrices(noise, jnp.where(due, 1, carry.age + 1))


Noise = Gaussian | OrnsteinUhlenbeck | Pink
