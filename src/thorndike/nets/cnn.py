"""Images: which arrays are read as such, how their pixels are scaled, and the convolutional networks for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, MultiBinary

from thorndike.configuration import config, require
from thorndike.nets.convolution import Convolution, Convolve, convolved, halved, in_parts, unfolded
from thorndike.nets.observations import Normalised, Scale, bounds
from thorndike.types import Array

SIDE = 3  # pixels: the least height and width of an image
GREY = 16  # pixels: the least of one without an axis of channels
NATURE = 36  # pixels: the least with which all three layers of the Nature network fit
LARGEST = 2**19  # numbers in the images of one part on the CPU, or in its first layer
MOST = 4096  # channels, and blocks: a model's file is not believed more


def channels_first(shape: Sequence[int]) -> bool:
    """Whether images of this shape are [C, H, W], not [H, W, C].

    Their first axis is then the shortest, and the other two are nearer to each other than the first two are.
    """
    a, b, c = shape
    return a < b and a < c and max(b, c) * a <= b * min(b, c)


def is_image(space: Space) -> bool:
    """Whether an array is read as an image.

    - [H, W, C] and [C, H, W], and stacks of them [T, H, W, C] and [T, C, H, W]: where H and W are 3 or more, whatever
      the type of the numbers.
    - [H, W]: where H and W are 16 or more, and all numbers have the same finite bounds. Smaller ones, and those whose
      columns have bounds of their own or none, are tables: a row for each car, and columns of speeds and distances.
    """
    if not isinstance(space, (Box, MultiBinary)) or len(space.shape) not in (2, 3, 4):
        return False
    height, width, _ = sides(space.shape)
    if len(space.shape) > 2:
        return min(height, width) >= SIDE
    if isinstance(space, Box):
        ends = bounds(space)
        same = all(np.isfinite(end).all() and (end == end.flat[0]).all() for end in ends)
    else:
        same = True
    return same and min(height, width) >= GREY


def sides(shape: Sequence[int]) -> tuple[int, int, int]:
    """Height, width and channels of images of this shape."""
    if len(shape) == 2:
        return shape[0], shape[1], 1
    frames, (a, b, c) = math.prod(shape[:-3]), shape[-3:]
    return (b, c, frames * a) if channels_first((a, b, c)) else (a, b, frames * c)


def arranged(x: Any) -> Any:
    """Images [B, *shape] as [B, H, W, C]; the frames of a stack are channels. NumPy's arrays or JAX's."""
    if x.ndim == 3:
        return x[..., None]
    first = channels_first(x.shape[-3:])
    if x.ndim == 4:
        return x.transpose(0, 2, 3, 1) if first else x
    x = x.transpose(0, 3, 4, 1, 2) if first else x.transpose(0, 2, 3, 1, 4)
    return x.reshape(*x.shape[:3], -1)


def pixel_scale(space: Space) -> Scale | None:
    """From each channel's bounds to [0, 1]; None where they are that already, or where there are none."""
    if not isinstance(space, Box) or isinstance(space, Normalised):
        return None
    low, high = (arranged(bound[None]) for bound in bounds(space))
    return Scale.between(low.min((0, 1, 2)), high.max((0, 1, 2)))


class Seen(NamedTuple):
    """How the images of one space are read; hashable."""

    shape: tuple[int, ...]  # as the space has it
    scale: Scale | None

    def whole(self, network: Plain | Residual, x: Array, convolve: Convolve = convolved) -> Array:
        """Features [B, F] of images [B, *shape]."""
        x = arranged(x).astype(jnp.float32)
        x = network(x if self.scale is None else self.scale(x), convolve)
        return x.reshape(x.shape[0], -1)

    def in_parts(self, network: Plain | Residual, x: Array) -> Array:
        """The same on a CPU."""
        height, width, channels = sides(self.shape)
        first = network.first
        size = height * width * max(channels, first.kernel.shape[-1] // math.prod(first.strides))
        return in_parts(partial(self.whole, network, convolve=unfolded), x, max(8, LARGEST // size))


class Images(eqx.Module):
    """Images [..., *shape] as features [..., features]: scaled, then through convolutions, then flattened."""

    network: Plain | Residual
    seen: Seen = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __init__(self, network: Plain | Residual, space: Space):
        self.network, self.seen = network, Seen(tuple(space.shape or ()), pixel_scale(space))
        one = jax.ShapeDtypeStruct((1, *self.seen.shape), jnp.float32)
        self.features = jax.eval_shape(self.seen.whole, network, one).shape[-1]

    def __call__(self, x: Array) -> Array:
        shape = self.seen.shape
        batch = x.shape[: x.ndim - len(shape)]
        x = x.reshape(-1, *shape)
        x = jax.lax.platform_dependent(self.network, x, cpu=self.seen.in_parts, default=self.seen.whole)
        return x.reshape(*batch, -1)


class Plain(eqx.Module):
    """Convolutions with ReLU after each, [B, H, W, C] to [B, h, w, F]."""

    layers: tuple[Convolution, ...]

    @property
    def first(self) -> Convolution:
        """The layer that sees the image."""
        return self.layers[0]

    def __call__(self, x: Array, convolve: Convolve) -> Array:
        for layer in self.layers:
            x = jax.nn.relu(layer(x, convolve))
        return x


class Stage(eqx.Module):
    """A 3 x 3 convolution, and residual blocks x + W' * relu(W * relu(x)), all of one number of channels."""

    entry: Convolution
    blocks: tuple[tuple[Convolution, Convolution], ...]
    pooled: bool = eqx.field(static=True)  # the largest of each 3 x 3 pixels in steps of 2 is taken before the blocks

    def __init__(self, key: Array, channels: int, filters: int, blocks: int, depth: int, pooled: bool, init: str):
        """`depth`: blocks of the whole network. The last layer of each is scaled by 1 / sqrt(depth), so that their sum
        is of the size of its input however many there are."""
        key, *keys = jax.random.split(key, 2 * blocks + 1)
        self.entry = Convolution(key, (3, 3, channels, filters), init, same=True)
        shape, small = (3, 3, filters, filters), depth**-0.5
        self.blocks = tuple(
            (Convolution(a, shape, init, same=True), Convolution(b, shape, init, same=True, gain=small))
            for a, b in zip(keys[::2], keys[1::2])
        )
        self.pooled = pooled

    def __call__(self, x: Array, convolve: Convolve) -> Array:
        x = self.entry(x, convolve)
        x = halved(x) if self.pooled else x
        for first, second in self.blocks:
            x = x + second(jax.nn.relu(first(jax.nn.relu(x), convolve)), convolve)
        return x


class Residual(eqx.Module):
    """Stages of residual blocks, and a ReLU behind them, [B, H, W, C] to [B, h, w, F]."""

    stages: tuple[Stage, ...]

    def __init__(self, key: Array, channels: int, filters: Sequence[int], blocks: int, pooled: bool, init: str):
        sizes = list(zip((channels, *filters[:-1]), filters, jax.random.split(key, len(filters))))
        depth = max(1, blocks * len(filters))
        self.stages = tuple(Stage(k, before, after, blocks, depth, pooled, init) for before, after, k in sizes)

    @property
    def first(self) -> Convolution:
        """The layer that sees the image."""
        return self.stages[0].entry

    def __call__(self, x: Array, convolve: Convolve) -> Array:
        for stage in self.stages:
            x = stage(x, convolve)
        return jax.nn.relu(x)


def _checked_sides(encoder: Any, space: Space) -> tuple[int, int, int]:
    """Height, width and channels of the images; raises `ConfigError` where these are none."""
    name = type(encoder).__name__
    array = isinstance(space, (Box, MultiBinary)) and len(space.shape) in (2, 3, 4)
    require(array, f"{name} reads images [H, W], [H, W, C], [C, H, W] or stacks of them, and this is {space}")
    height, width, channels = sides(space.shape)
    fits = min(height, width) >= SIDE
    require(fits, f"{name} reads images of at least {SIDE} x {SIDE} pixels, and this is {space}")
    return height, width, channels


def _counts(encoder: Any, *counts: int) -> None:
    name = type(encoder).__name__
    require(all(0 < n <= MOST for n in counts), f"the sizes of {name} must be from 1 to {MOST}, got {counts}")


@config
class NatureCNN:
    """The convolutions of the Nature DQN paper (Mnih et al. 2015): 32 of 8 x 8 in steps of 4, 64 of 4 x 4 in steps of
    2, 64 of 3 x 3.

    Images smaller than 36 x 36 keep kernels no larger than what is left of the image.
    """

    def build(self, key: Array, space: Space, init: str) -> Images:
        """The network for images of `space`."""
        height, width, channels = _checked_sides(self, space)
        layers = []
        for k, (filters, kernel, stride) in zip(jax.random.split(key, 3), ((32, 8, 4), (64, 4, 2), (64, 3, 1))):
            kernel = min(kernel, height, width)
            layers.append(Convolution(k, (kernel, kernel, channels, filters), init, (stride, stride)))
            height, width, channels = (height - kernel) // stride + 1, (width - kernel) // stride + 1, filters
        return Images(Plain(tuple(layers)), space)


@config
class SmallCNN:
    """One 3 x 3 convolution, for small images such as MinAtar's (Young & Tian 2019)."""

    channels: int = 16

    def check(self) -> None:
        """At least one channel."""
        _counts(self, self.channels)

    def build(self, key: Array, space: Space, init: str) -> Images:
        """The network for images of `space`."""
        channels = _checked_sides(self, space)[2]
        return Images(Plain((Convolution(key, (3, 3, channels, self.channels), init),)), space)


@config
class ImpalaCNN:
    """The residual network of IMPALA (Espeholt et al. 2018, figure 3, right): in each stage a 3 x 3 convolution, a
    pooling that halves the sides, and residual blocks."""

    channels: tuple[int, ...] = (16, 32, 32)  # of each stage
    blocks: int = 2  # in each stage

    def check(self) -> None:
        """At least one stage."""
        require(len(self.channels) > 0, "ImpalaCNN.channels names no stage")
        _counts(self, *self.channels, self.blocks * len(self.channels))

    def build(self, key: Array, space: Space, init: str) -> Images:
        """The network for images of `space`."""
        channels = _checked_sides(self, space)[2]
        return Images(Residual(key, channels, self.channels, self.blocks, True, init), space)


@config
class ResidualCNN:
    """A tower of residual 3 x 3 blocks that keep H x W, for boards (as in Silver et al. 2017, without batch
    normalisation)."""

    channels: int = 64
    blocks: int = 4

    def check(self) -> None:
        """At least one channel and one block."""
        _counts(self, self.channels, self.blocks)

    def build(self, key: Array, space: Space, init: str) -> Images:
        """The network for images of `space`."""
        channels = _checked_sides(self, space)[2]
        return Images(Residual(key, channels, (self.channels,), self.blocks, False, init), space)
