"""Noise that is added to continuous actions: Gaussian, Ornstein-Uhlenbeck and pink.

Each is a config with `carry(n, dimensions)`, what it remembers before the first step of n environments, and
`draw(key, carry, first, dimensions)`, the noise of one step [E, D] and what it remembers then. Where `first` [E] is set
an episode begins, and the noise begins anew. Noise is in network units: an action's range is [-1, 1].
"""

from __future__ import annotations

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


Noise = Gaussian | OrnsteinUhlenbeck | Pink
