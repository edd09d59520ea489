"""Convolutions over one axis: readings in a ring or a row, such as a lidar's."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium import Space
from gymnasium.spaces import Box, MultiBinary

from thorndike.configuration import config, require
from thorndike.nets.convolution import Convolution, convolved, unfolded
from thorndike.nets.observations import Numbers
from thorndike.types import Array

MOST = 4096  # channels: a model's file is not believed more


@config
class Conv1D:
    """Convolutions over the first axis of readings [N] or [N, C], ReLU after each, then flattened.

    Readings with finite bounds are scaled to [0, 1], floats too.
    """

    channels: tuple[int, ...] = (32, 32)  # of each layer
    kernel: int = 5
    stride: int = 2

    def check(self) -> None:
        """At least one layer."""
        sizes = (*self.channels, self.kernel, self.stride)
        require(len(self.channels) > 0, "Conv1D.channels names no layer")
        require(all(0 < n <= MOST for n in sizes), f"the sizes of Conv1D must be from 1 to {MOST}, got {sizes}")

    def build(self, key: Array, space: Space, init: str) -> Readings:
        """The network for readings of `space`; raises `ConfigError` for other shapes."""
        shaped = isinstance(space, (Box, MultiBinary)) and len(space.shape) in (1, 2)
        require(shaped, f"Conv1D reads arrays [N] or [N, C], and this is {space}")
        length, channels = (*space.shape, 1)[:2]
        layers = []
        for i, (k, filters) in enumerate(zip(jax.random.split(key, len(self.channels)), self.channels)):
            most = 1 + (length - self.kernel) // self.stride
            require(most > 0, f"Conv1D has layers for more readings than {space} has: layer {i + 1} is left {length}")
            layers.append(Convolution(k, (1, self.kernel, channels, filters), init, (1, self.stride)))
            length, channels = most, filters
        return Readings(tuple(layers), Numbers(space, floats=True), length * channels)


class Readings(eqx.Module):
    """Readings [..., N] or [..., N, C] as features [..., features]."""

    layers: tuple[Convolution, ...]
    numbers: Numbers
    features: int = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        x, length = self.numbers(x), self.numbers.shape[0]
        batch = x.shape[:-1]
        x = x.reshape(-1, 1, length, x.shape[-1] // length)
        for layer in self.layers:

            def on_cpu(layer: Convolution, x: Array) -> Array:
                return layer(x, unfolded)

            def elsewhere(layer: Convolution, x: Array) -> Array:
                return layer(x, convolved)

            x = jax.nn.relu(jax.lax.platform_dependent(layer, x, cpu=on_cpu, default=elsewhere))
        return jnp.reshape(x, (*batch, -1))
