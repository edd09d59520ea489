"""Fixed features of a vector, for values and policies that are linear in them."""

from __future__ import annotations

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, MultiBinary

from thorndike.configuration import config, require
from thorndike.nets.observations import Normalised, Numbers, is_bounded
from thorndike.types import Array

MOST = 2**16  # features


@config
class Polynomial:
    """All products of powers of the numbers, each up to `order`: (order + 1)^d features, the first of them 1.

    x_i(s) = ∏_j s_j^c_ij with c_ij in {0, ..., order} (Sutton & Barto 2018, equation 9.17).
    """

    order: int = 2

    def check(self) -> None:
        """At least the numbers themselves."""
        require(self.order > 0, f"Polynomial.order must be positive, got {self.order}")

    def build(self, key: Array, space: Space, init: str) -> Powers:
        """The features of `space`; nothing is drawn."""
        return Powers(_numbers(self, space, False), self.order, _count(self, self.order + 1, space))


class Powers(eqx.Module):
    """Polynomial features [..., features] of arrays [..., *shape]."""

    numbers: Numbers
    order: int = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        x = self.numbers(x)
        powers = jnp.stack([x**k for k in range(self.order + 1)], -1)  # [..., d, order + 1]
        product = jnp.ones((*x.shape[:-1], 1))
        for j in range(x.shape[-1]):
            product = (product[..., :, None] * powers[..., j, None, :]).reshape(*x.shape[:-1], -1)
        return product


@config
class Fourier:
    """The Fourier basis (Konidaris et al. 2011): x_i(s) = cos(π c_i · s) with c_i in {0, ..., order}^d.

    These are (order + 1)^d features. The numbers need finite bounds, by which they are scaled to [0, 1]. (The paper
    also divides each feature's step size by the length of c_i.)
    """

    order: int = 3

    def check(self) -> None:
        """At least one frequency."""
        require(self.order > 0, f"Fourier.order must be positive, got {self.order}")

    def build(self, key: Array, space: Space, init: str) -> Cosines:
        """The features of `space`; nothing is drawn. Raises `ConfigError` where it has no finite bounds."""
        return Cosines(_numbers(self, space, True), self.order, _count(self, self.order + 1, space))


class Cosines(eqx.Module):
    """Fourier features [..., features] of arrays [..., *shape]."""

    numbers: Numbers
    order: int = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        x = jnp.clip(self.numbers(x), 0.0, 1.0)
        c = np.array(list(itertools.product(range(self.order + 1), repeat=x.shape[-1])), np.float32)
        return jnp.cos(jnp.pi * jnp.matmul(x, c.T, precision=jax.lax.Precision.HIGHEST))


@config
class TileCoding:
    """Tile coding (Sutton & Barto 2018, section 9.5.4): `tilings` grids, of which each has one tile that is on.

    A grid has `tiles` tiles across the bounds of each number, and one more, since tiling i is displaced by
    i (1, 3, 5, ...) / tilings of a tile, less its whole part: tilings · (tiles + 1)^d features. The numbers need finite
    bounds. The book advises a power of 2 of at least 4 d tilings.
    """

    tilings: int = 8
    tiles: int = 8

    def check(self) -> None:
        """At least one tile."""
        positive = self.tilings > 0 and self.tiles > 0
        require(positive, f"TileCoding has {self.tilings} tilings of {self.tiles} tiles: both must be positive")

    def build(self, key: Array, space: Space, init: str) -> Tiles:
        """The features of `space`; nothing is drawn. Raises `ConfigError` where it has no finite bounds."""
        count = _count(self, self.tiles + 1, space, self.tilings)
        return Tiles(_numbers(self, space, True), self.tilings, self.tiles, count)


class Tiles(eqx.Module):
    """Tile coding [..., features] of arrays [..., *shape]: 1 where a tile is on."""

    numbers: Numbers
    tilings: int = eqx.field(static=True)
    tiles: int = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        x = self.numbers(x)
        d, cells = x.shape[-1], (self.tiles + 1) ** x.shape[-1]
        moved = np.arange(self.tilings)[:, None] * (2 * np.arange(d) + 1) % self.tilings / self.tilings
        at = jnp.floor(jnp.clip(x, 0.0, 1.0)[..., None, :] * self.tiles + moved).astype(jnp.int32)  # [..., tilings, d]
        index = (at * (self.tiles + 1) ** np.arange(d - 1, -1, -1)).sum(-1)
        return jax.nn.one_hot(index, cells).reshape(*x.shape[:-1], -1)


Feature = Polynomial | Fourier | TileCoding


def _numbers(encoder: Feature, space: Space, bounded: bool) -> Numbers:
    name = type(encoder).__name__
    require(isinstance(space, (Box, MultiBinary)), f"{name} reads numbers, and this is {space}")
    none = "normalize_observation leaves none: set it to False"
    why = none if isinstance(space, Normalised) else f"this is {space}"
    require(not bounded or is_bounded(space), f"{name} needs numbers with finite bounds, and {why}")
    return Numbers(space, floats=bounded)


def _count(encoder: Feature, base: int, space: Space, times: int = 1) -> int:
    """times · base^d; raises `ConfigError` where that is too many."""
    numbers = int(np.prod(space.shape or ()))
    few = numbers * np.log(base) + np.log(times) <= np.log(MOST)
    name = type(encoder).__name__
    why = f"{name} would make more than {MOST:,} features of {numbers} numbers: choose fewer, or give it a part alone"
    require(bool(few), why)
    return times * base**numbers
