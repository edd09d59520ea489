"""Numbers learned as distributions over bins, so that a loss does not depend on their size."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import config, require
from thorndike.ops.rescaling import squashed, unsquashed
from thorndike.types import Array


def symlog(x: Array) -> Array:
    """sign(x) log(1 + |x|) (Hafner et al. 2023, eq. 1)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """sign(x) (exp(|x|) - 1), the inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def two_hot(x: Array, atoms: Array) -> Array:
    """The distribution on the two atoms around x whose mean is x, [..., M]; all on an end for what lies outside.

    Args:
        x: numbers [...].
        atoms: rising values [M].
    """
    x = jnp.clip(x, atoms[0], atoms[-1])
    above = jnp.clip(jnp.searchsorted(atoms, x, side="right"), 1, atoms.shape[0] - 1)
    low, high = atoms[above - 1], atoms[above]
    share = ((x - low) / (high - low))[..., None]
    one = lambda i: jax.nn.one_hot(i, atoms.shape[0])  # noqa: E731
    return (1.0 - share) * one(above - 1) + share * one(above)


@config
class Bins:
    """Where the bins of a distribution over numbers lie.

    "linear": at equal steps from `low` to `high`. "symexp" (Hafner et al. 2023): at symexp of these, dense around 0; a
    number is the mean over them. "squashed" (Schrittwieser et al. 2020, appendix F): at equal steps of h(x), of which a
    number is h⁻¹ of the mean; `low` and `high` are on the scale of h.
    """

    low: float = -20.0
    high: float = 20.0
    count: int = 255
    scale: Literal["linear", "symexp", "squashed"] = "symexp"

    def check(self) -> None:
        """At least two bins, in order."""
        rising = bool(np.all(np.less(self.low, self.high)))  # each of them, where a sweep has several
        require(self.count > 1 and rising, "Bins need low < high and a count of 2 or more")

    @property
    def atoms(self) -> Array:
        """The bins' values [M]: those of numbers, or of h of them where the scale is "squashed"."""
        places = jnp.linspace(self.low, self.high, self.count)
        return symexp(places) if self.scale == "symexp" else places

    def encode(self, x: Array) -> Array:
        """Probabilities [..., M] of numbers [...]."""
        return two_hot(squashed(x) if self.scale == "squashed" else x, self.atoms)

    def decode(self, logits: Array) -> Array:
        """The numbers [...] of logits [..., M].

        The sum goes from the ends inwards in pairs: large opposite atoms of equal probability leave no rounding.
        """
        weighted = jax.nn.softmax(logits) * self.atoms
        mean = 0.5 * (weighted + weighted[..., ::-1]).sum(-1)
        return unsquashed(mean) if self.scale == "squashed" else mean

    def loss(self, logits: Array, x: Array) -> Array:
        """The cross-entropy -Σ p log softmax(logits), [...], p of the numbers x [...]; no gradient goes to x."""
        return -(jax.lax.stop_gradient(self.encode(x)) * jax.nn.log_softmax(logits)).sum(-1)
