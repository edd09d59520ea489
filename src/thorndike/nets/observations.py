"""How one simple space is read as numbers: one-hot vectors, and numbers scaled by the space's bounds."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from thorndike.types import Array, Spec


class Normalised(Box):
    """A Box of floats that a network is shown as deviations from their mean, over their standard deviation.

    Its bounds are those from before that: they tell an image from a table, and nothing is scaled by them.
    """


def normalised(space: Space) -> Space:
    """The space of observations whose floats are normalised before a network sees them."""
    if isinstance(space, Dict):
        return Dict({name: normalised(part) for name, part in space.spaces.items()})
    if isinstance(space, Tuple):
        return Tuple([normalised(part) for part in space.spaces])
    if isinstance(space, Box) and space.dtype.kind == "f":
        return Normalised(space.low, space.high, dtype=space.dtype.type)
    return space


def shown(spec: Spec, normalise: bool) -> Spec:
    """The spec as networks see it, where floats may be normalised on the way."""
    return dataclasses.replace(spec, observation=normalised(spec.observation)) if normalise else spec


def bounds(space: Box) -> tuple[np.ndarray, np.ndarray]:
    """Its bounds as float64, -inf and inf where it has none.

    Integer types have no infinity, and Gymnasium writes the type's own limit in its place: such a limit is no bound,
    but for uint8 and uint16, whose limits are the usual bounds of images. 1e30 or more means infinity too.
    """
    low, high = space.low.astype(float), space.high.astype(float)
    if space.dtype.kind in "iu" and space.dtype not in (np.uint8, np.uint16):
        limits = np.iinfo(space.dtype)
        low = np.where(space.low == limits.min, -np.inf, low) if limits.min < 0 else low
        high = np.where(space.high == limits.max, np.inf, high)
    return np.where(low <= -1e30, -np.inf, low), np.where(high >= 1e30, np.inf, high)


def is_bounded(space: Space) -> bool:
    """Whether the numbers of a Box or MultiBinary arrive between finite bounds."""
    if not isinstance(space, Box):
        return isinstance(space, MultiBinary)
    return not isinstance(space, Normalised) and bool(np.isfinite(bounds(space)).all())


class Scale(NamedTuple):
    """(x - low) / span, with one value for all numbers, or one for each; hashable."""

    low: tuple[float, ...]
    span: tuple[float, ...]

    @staticmethod
    def between(low: np.ndarray, high: np.ndarray) -> Scale | None:
        """From [low, high] to [0, 1]; what has no finite bounds, or no width, is left as it is. None: all of it is."""
        with np.errstate(invalid="ignore"):
            usable = np.isfinite(low) & np.isfinite(high) & (low < high)
            low, span = np.where(usable, low, 0.0), np.where(usable, high - low, 1.0)
        if not usable.any() or ((low == 0) & (span == 1)).all():
            return None
        same = (low == low.flat[0]).all() and (span == span.flat[0]).all()
        return Scale(*(tuple((x.ravel()[:1] if same else x.ravel()).tolist()) for x in (low, span)))

    def __call__(self, x: Array) -> Array:
        """Scale the last axis of `x`."""
        low = x if not any(self.low) else x - jnp.asarray(self.low, jnp.float32)
        return low / jnp.asarray(self.span, jnp.float32)


class Numbers(eqx.Module):
    """A Box or MultiBinary [..., *shape] as a vector [..., features]; whole numbers are scaled to [0, 1]."""

    shape: tuple[int, ...] = eqx.field(static=True)
    scale: Scale | None = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __init__(self, space: Box | MultiBinary, floats: bool = False):
        """`floats`: whether these are scaled too."""
        self.shape, self.features = tuple(space.shape), int(np.prod(space.shape))
        self.scale = None
        if isinstance(space, Box) and not isinstance(space, Normalised) and (floats or space.dtype.kind != "f"):
            self.scale = Scale.between(*bounds(space))

    def __call__(self, x: Array) -> Array:
        x = x.reshape((*x.shape[: x.ndim - len(self.shape)], -1)).astype(jnp.float32)
        return x if self.scale is None else self.scale(x)


class Choice(eqx.Module):
    """A Discrete [...] as a one-hot vector [..., n]."""

    start: int = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __init__(self, space: Discrete):
        self.start, self.features = int(space.start), int(space.n)

    def __call__(self, x: Array) -> Array:
        return jax.nn.one_hot(x - self.start, self.features)


class Choices(eqx.Module):
    """A MultiDiscrete [..., *shape] as the one-hot vectors of its parts, behind each other."""

    shape: tuple[int, ...] = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)
    starts: tuple[int, ...] = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __init__(self, space: MultiDiscrete):
        self.shape = tuple(space.shape)
        self.sizes, self.starts = (tuple(int(n) for n in x.ravel()) for x in (space.nvec, space.start))
        self.features = sum(self.sizes)

    def __call__(self, x: Array) -> Array:
        x = x.reshape((*x.shape[: x.ndim - len(self.shape)], -1))
        each = zip(self.sizes, self.starts)
        return jnp.concatenate([jax.nn.one_hot(x[..., i] - start, n) for i, (n, start) in enumerate(each)], -1)
