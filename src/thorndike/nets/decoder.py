"""From features back to observations: vectors by dense layers, images by convolutions that double their sides."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.nets.cnn import LARGEST, arranged, is_image, pixel_scale, sides
from thorndike.nets.convolution import Convolution, Convolve, convolved, in_parts, unfolded
from thorndike.nets.mlp import Dense
from thorndike.nets.observations import Choice, Choices, Numbers, Scale
from thorndike.nets.rssm import Stack, normed
from thorndike.nets.torso import leaves
from thorndike.ops.twohot import symlog
from thorndike.types import Array, PyTree

LEAST = 6  # pixels: sides that are not halved again


class Painting(eqx.Module):
    """Features [B, F] to images [B, H, W, C] in [0, 1].

    A dense layer makes a small image, and each convolution has four channels for each one that it hands on, which are
    the four pixels of each pixel in an image of twice the sides (Shi et al. 2016).
    """

    first: Dense
    layers: tuple[Convolution, ...]
    last: Convolution
    small: tuple[int, int, int] = eqx.field(static=True)  # height, width and channels at first
    sides: tuple[int, int] = eqx.field(static=True)

    def __init__(self, key: Array, features: int, shape: tuple[int, ...], depth: int):
        height, width, channels = sides(shape)
        self.sides, doublings = (height, width), 0
        while min(height, width) > LEAST:
            height, width, doublings = -(-height // 2), -(-width // 2), doublings + 1
        filters = [depth * 2 ** min(i, 2) for i in range(doublings, -1, -1)]  # the last image has `depth` channels
        self.small = (height, width, filters[0])
        fkey, lkey, *keys = jax.random.split(key, doublings + 2)
        self.first = Dense(fkey, features, height * width * filters[0])
        self.layers = tuple(
            Convolution(k, (3, 3, before, 4 * after), "orthogonal", same=True)
            for k, before, after in zip(keys, filters[:-1], filters[1:])
        )
        self.last = Convolution(lkey, (3, 3, filters[-1], channels), "orthogonal", same=True, gain=0.1)

    def drawn(self, x: Array, convolve: Convolve) -> Array:
        """Images [B, H, W, C] of features [B, F]."""
        x = jax.nn.silu(normed(self.first(x).reshape(-1, *self.small)))
        for layer in self.layers:
            x = layer(x, convolve)
            n, height, width, channels = x.shape
            x = x.reshape(n, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
            x = jax.nn.silu(normed(x.reshape(n, 2 * height, 2 * width, channels // 4)))
        return jax.nn.sigmoid(self.last(x[:, : self.sides[0], : self.sides[1]], convolve))

    def in_parts(self, x: Array) -> Array:
        """The same on a CPU."""
        size = self.sides[0] * self.sides[1] * self.last.kernel.shape[2]
        return in_parts(partial(self.drawn, convolve=unfolded), x, max(8, LARGEST // size))

    def __call__(self, x: Array) -> Array:
        rows = x.reshape(-1, x.shape[-1])
        whole = lambda self, x: self.drawn(x, convolved)  # noqa: E731
        y = jax.lax.platform_dependent(self, rows, cpu=lambda self, x: self.in_parts(x), default=whole)
        return y.reshape(*x.shape[:-1], *y.shape[1:])


class Picture(eqx.Module):
    """An image [..., *shape] as it is learned: [..., H, W, C] in [0, 1]."""

    shape: tuple[int, ...] = eqx.field(static=True)
    scale: Scale | None = eqx.field(static=True)

    def __init__(self, space: Space):
        self.shape, self.scale = tuple(space.shape or ()), pixel_scale(space)

    def __call__(self, x: Array) -> Array:
        lead = x.shape[: x.ndim - len(self.shape)]
        x = arranged(x.reshape(-1, *self.shape)).astype(jnp.float32)
        x = x if self.scale is None else self.scale(x)
        return x.reshape(*lead, *x.shape[1:])


def _target(space: Space) -> Any:
    """The module that makes of a part of an observation what is to be predicted of it."""
    if isinstance(space, Discrete):
        return Choice(space)
    if isinstance(space, MultiDiscrete):
        return Choices(space)
    assert isinstance(space, (Box, MultiBinary)), space
    return Picture(space) if is_image(space) else Numbers(space)


class Decoder(eqx.Module):
    """What an observation is expected to be, by features [..., F].

    Of images pixels in [0, 1]; of all else numbers, whose large ones are made small by `symlog`, and choices as one-hot
    vectors.
    """

    vector: Stack | None
    images: tuple[Painting, ...]
    targets: tuple[Any, ...]  # one for each simple space, as JAX orders them

    def __init__(self, key: Array, features: int, space: Space, units: int, layers: int, depth: int):
        """`depth`: channels of an image's last layer but one."""
        vkey, *keys = jax.random.split(key, len(leaves(space)) + 1)
        self.targets = tuple(map(_target, leaves(space)))
        numbers = sum(0 if isinstance(t, Picture) else t.features for t in self.targets)
        self.vector = Stack(vkey, features, units, layers, numbers) if numbers else None
        shapes = [target.shape for target in self.targets if isinstance(target, Picture)]
        self.images = tuple(Painting(k, features, shape, depth) for k, shape in zip(keys, shapes))

    @property
    def numbers(self) -> int:
        """How many numbers and pixels an observation has."""
        return sum(math.prod(t.shape) if isinstance(t, Picture) else t.features for t in self.targets)

    def loss(self, features: Array, obs: PyTree) -> Array:
        """The squared error, summed over all numbers and pixels of an observation, [...]."""
        parts = [target(x) for target, x in zip(self.targets, jax.tree.leaves(obs))]
        pictures = [isinstance(target, Picture) for target in self.targets]
        images = [part for part, is_picture in zip(parts, pictures) if is_picture]
        numbers = [symlog(part) for part, is_picture in zip(parts, pictures) if not is_picture]
        found = sum(((paint(features) - x) ** 2).sum((-1, -2, -3)) for paint, x in zip(self.images, images))
        if self.vector is not None:
            found = found + ((self.vector(features) - jnp.concatenate(numbers, -1)) ** 2).sum(-1)
        return jnp.asarray(found)


def smaller(space: Space, obs: PyTree) -> PyTree:
    """An observation whose floats, but for those of images, are made small by `symlog`: for an encoder to see."""
    parts, structure = jax.tree.flatten(obs)
    floats = [jnp.issubdtype(x.dtype, jnp.floating) and not is_image(leaf) for x, leaf in zip(parts, leaves(space))]
    return jax.tree.unflatten(structure, [symlog(x) if f else x for x, f in zip(parts, floats)])
