"""Pictures changed at random, so that a network does not learn them by heart.

Pictures are leaves with three or four axes of their own, [H, W, C] or [C, H, W] and stacks of them. Each one has a draw
of its own, which the frames and the channels of a stack share.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.domains import Fraction, Share
from thorndike.nets.cnn import channels_first
from thorndike.types import Array, PyTree


@config
class Shift:
    """Random shifts: a picture moved by up to `pixels` each way, its edges repeated (Kostrikov et al. 2021, DrQ)."""

    pixels: int = 4

    def check(self) -> None:
        """At least one pixel."""
        require(self.pixels > 0, f"Shift.pixels must be 1 or more, got {self.pixels}")

    def __call__(self, key: Array, obs: PyTree, axes: int) -> PyTree:
        """Observations, leaves [..., *shape] with so many leading `axes`, whose pictures are shifted."""
        return each_picture(self.moved, key, obs, axes)

    def moved(self, key: Array, x: Array) -> Array:
        """Pictures [N, H, W, ...]."""
        n, height, width = x.shape[:3]
        by = jax.random.randint(key, (2, n, 1), -self.pixels, self.pixels + 1)
        down = jnp.clip(jnp.arange(height) + by[0], 0, height - 1)
        right = jnp.clip(jnp.arange(width) + by[1], 0, width - 1)
        return picked(x, down, right)


@config
class Crop:
    """Random crops: a window of a picture, drawn up to its size again by its nearest pixels (RAD's crop, Laskin et al.
    2020, of pictures that keep their size).

    The window has `least` to all of each side, the same share of both, and lies anywhere.
    """

    least: Share = 0.8  # of a side

    def __call__(self, key: Array, obs: PyTree, axes: int) -> PyTree:
        """Observations, leaves [..., *shape] with so many leading `axes`, whose pictures are cropped."""
        return each_picture(self.cropped, key, obs, axes)

    def cropped(self, key: Array, x: Array) -> Array:
        """Pictures [N, H, W, ...]."""
        n, height, width = x.shape[:3]
        skey, dkey, rkey = jax.random.split(key, 3)
        share = jax.random.uniform(skey, (n, 1), minval=self.least, maxval=1.0)
        down, right = (
            window(jax.random.uniform(k, (n, 1)), share, side) for k, side in ((dkey, height), (rkey, width))
        )
        return picked(x, down, right)


@config
class ColourJitter:
    """Random colours (as in RAD, Laskin et al. 2020): brightness, contrast and saturation, each times U(1 - b, 1 + b).

    x <- b x;   x <- m + c (x - m), m the picture's mean;   x <- g + s (x - g), g each pixel's mean over its colours

    Saturation is for pictures of three channels. Whole numbers are rounded, and cut to what their type holds; floats
    may leave the range that they had. Pictures of bools have no colours, and stay.
    """

    brightness: Fraction = 0.4
    contrast: Fraction = 0.4
    saturation: Fraction = 0.4

    def __call__(self, key: Array, obs: PyTree, axes: int) -> PyTree:
        """Observations, leaves [..., *shape] with so many leading `axes`, whose pictures have other colours."""
        return each_picture(self.coloured, key, obs, axes)

    def coloured(self, key: Array, x: Array) -> Array:
        """Pictures [N, H, W, ...], the channels anywhere behind."""
        if x.dtype == bool:
            return x
        ranges = jnp.asarray([self.brightness, self.contrast, self.saturation])
        draws = 1.0 + ranges * jax.random.uniform(key, (x.shape[0], 3), minval=-1.0, maxval=1.0)
        brightness, contrast, saturation = draws.T.reshape(3, -1, *(1,) * (x.ndim - 1))
        y = brightness * x.astype(jnp.float32)
        middle = y.mean(range(1, x.ndim), keepdims=True)
        y = middle + contrast * (y - middle)
        if x.shape[-1] == 3:
            grey = y.mean(-1, keepdims=True)
            y = grey + saturation * (y - grey)
        if jnp.issubdtype(x.dtype, jnp.integer):
            limits = jnp.iinfo(x.dtype)
            y = jnp.clip(jnp.round(y), limits.min, limits.max)
        return y.astype(x.dtype)


Augment = Shift | Crop | ColourJitter


def each_picture(change: Callable[[Array, Array], Array], key: Array, obs: PyTree, axes: int) -> PyTree:
    """`change(key, pictures [N, H, W, ...])` for all pictures of observations, whose leaves have so many leading
    `axes`; all else stays. The channels, and the frames of a stack before them, are behind H and W."""
    leaves, structure = jax.tree.flatten(obs)
    keys = jax.random.split(key, len(leaves))

    def changed(key: Array, x: Array) -> Array:
        rows = -2 if channels_first(x.shape[-3:]) else -3
        flat = jnp.moveaxis(x.reshape(-1, *x.shape[axes:]), (rows, rows + 1), (1, 2))
        return jnp.moveaxis(change(key, flat), (1, 2), (rows, rows + 1)).reshape(x.shape)

    found = [changed(k, x) if x.ndim - axes in (3, 4) else x for k, x in zip(keys, leaves)]
    return jax.tree.unflatten(structure, found)


def window(place: Array, share: Array, side: int) -> Array:
    """The pixels [N, side] that a window shows at each of its `side` places: ⌊p (1 - z) n + (i + ½) z⌋, for places
    p [N, 1] in [0, 1] and shares z [N, 1] of a side of n pixels."""
    found = jnp.floor(place * (1.0 - share) * side + (jnp.arange(side) + 0.5) * share).astype(jnp.int32)
    return jnp.clip(found, 0, side - 1)


def picked(x: Array, down: Array, right: Array) -> Array:
    """Pictures [N, H, W, ...] of the rows [N, H] and the columns [N, W] of others."""
    return x[jnp.arange(x.shape[0])[:, None, None], down[:, :, None], right[:, None, :]]
