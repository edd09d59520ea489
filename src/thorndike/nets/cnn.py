"""The convolutional network of the Nature DQN paper (Mnih et al. 2015)."""

from __future__ import annotations

from functools import partial, reduce

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.nets.mlp import Dense, orthogonal
from thorndike.types import Array

PART = 512  # images at once on the CPU
LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # filters, kernel, stride


class NatureCNN(eqx.Module):
    """uint8 images [..., H, W, C] (or [..., C, H, W], told by the shape) to 512 features; pixels are divided by 255.

    Images smaller than the paper's 84 x 84 keep as many of its layers as fit, with kernels no larger than the image.
    """

    kernels: tuple[Array, ...]  # [k, k, in, out]
    biases: tuple[Array, ...]
    dense: Dense
    strides: tuple[int, ...] = eqx.field(static=True)
    channels_first: bool = eqx.field(static=True)

    def __init__(self, key: Array, shape: tuple[int, ...], features: int = 512):
        self.channels_first = channels_first(shape)
        height, width, channels = (shape[1], shape[2], shape[0]) if self.channels_first else shape
        *keys, last = jax.random.split(key, len(LAYERS) + 1)
        kernels, strides = [], []
        for k, (filters, kernel, stride) in zip(keys, LAYERS):
            kernel = min(kernel, height, width)
            flat = orthogonal(k, (kernel * kernel * channels, filters), 2.0**0.5)
            kernels.append(flat.reshape(kernel, kernel, channels, filters))
            strides.append(stride)
            height, width, channels = (height - kernel) // stride + 1, (width - kernel) // stride + 1, filters
        self.kernels, self.strides = tuple(kernels), tuple(strides)
        self.biases = tuple(jnp.zeros(w.shape[-1]) for w in kernels)
        self.dense = Dense(last, height * width * channels, features, 2.0**0.5)

    def __call__(self, image: Array) -> Array:
        image = jnp.moveaxis(image, -3, -1) if self.channels_first else image
        batch = image.shape[:-3]
        x = image.reshape((-1, *image.shape[-3:])).astype(jnp.float32) / 255.0
        for kernel, bias, stride in zip(self.kernels, self.biases, self.strides):
            on_cpu, elsewhere = partial(unfolded, stride=stride), partial(convolved, stride=stride)
            x = jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)
            x = jax.nn.relu(x + bias)
        x = jax.nn.relu(self.dense(x.reshape(x.shape[0], -1)))
        return x.reshape((*batch, -1))


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether images of this shape are [C, H, W], not [H, W, C]: their first axis is the shortest."""
    return shape[0] < shape[1] and shape[0] < shape[2]


def convolved(x: Array, kernel: Array, stride: int) -> Array:
    """Convolution of images [B, H, W, C] with a kernel [k, k, C, F], without padding."""
    strides = (stride, stride)
    return jax.lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def unfolded(x: Array, kernel: Array, stride: int) -> Array:
    """The same as a sum of matrix products, one for each place of a block of stride x stride pixels in the kernel.

    Measured: XLA's own convolution on the CPU takes 27 times as long for a minibatch of Atari inside a `scan`, and one
    product over all patches 1.8 times. Many images go through in parts, for the memory's sake.
    """
    if x.shape[0] > PART:
        return jax.lax.map(lambda image: unfolded(image[None], kernel, stride)[0], x, batch_size=PART)
    size, _, channels, filters = kernel.shape
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])  # of the result
    reach = -(-size // stride)  # blocks across the kernel
    rows, columns, block = height + reach - 1, width + reach - 1, stride * stride * channels
    x = jnp.pad(x, [(0, 0), (0, stride), (0, stride), (0, 0)])[:, : rows * stride, : columns * stride]
    x = x.reshape(len(x), rows, stride, columns, stride, channels).swapaxes(2, 3).reshape(len(x), rows, columns, block)
    kernel = jnp.pad(kernel, [(0, reach * stride - size)] * 2 + [(0, 0)] * 2)
    kernel = kernel.reshape(reach, stride, reach, stride, channels, filters).swapaxes(1, 2)
    kernel = kernel.reshape(reach, reach, block, filters)
    places = [(i, j) for i in range(reach) for j in range(reach)]
    products = (x[:, i : i + height, j : j + width].reshape(-1, block) @ kernel[i, j] for i, j in places)
    return reduce(jnp.add, products).reshape(len(x), height, width, filters)
