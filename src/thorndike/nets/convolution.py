"""Convolutions as matrix products, which on the CPU are many times as fast as XLA's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.nets.mlp import gain_of, weights
from thorndike.types import Array

Convolve = Callable[[Array, Array, tuple[int, int]], Array]


class Convolution(eqx.Module):
    """y = x * W + b on images [B, H, W, C]; "same" pads with zeros so that H x W stays (with strides of 1)."""

    kernel: Array  # [height, width, in, out]
    bias: Array  # [out]
    strides: tuple[int, int] = eqx.field(static=True)
    same: bool = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        shape: tuple[int, int, int, int],
        init: str,
        strides: tuple[int, int] = (1, 1),
        same: bool = False,
        gain: float = 1.0,
    ):
        height, width, channels, filters = shape
        places = height * width
        flat, self.bias = weights(key, (places * channels, filters), gain * gain_of(init), init, places)
        self.kernel = flat.reshape(shape)
        self.strides, self.same = strides, same

    def __call__(self, x: Array, convolve: Convolve) -> Array:
        if self.same:
            x = jnp.pad(x, [(0, 0), *(((n - 1) // 2, n // 2) for n in self.kernel.shape[:2]), (0, 0)])
        return convolve(x, self.kernel, self.strides) + self.bias


def convolved(x: Array, kernel: Array, strides: tuple[int, int]) -> Array:
    """Convolution of images [B, H, W, C] with a kernel [h, w, C, F], without padding, by XLA."""
    return jax.lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def unfolded(x: Array, kernel: Array, strides: tuple[int, int]) -> Array:
    """The same as a sum of matrix products, one for each row of blocks of strides[0] x strides[1] pixels in the kernel.

    Measured: XLA's own convolution on the CPU takes 27 times as long for a minibatch of Atari inside a `scan`.
    """
    size, (channels, filters) = kernel.shape[:2], kernel.shape[2:]
    height, width = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], size, strides))  # of the result
    tall, wide = (-(-k // s) for k, s in zip(size, strides))  # blocks across the kernel
    rows, columns, block = height + tall - 1, width + wide - 1, strides[0] * strides[1] * channels
    need = rows * strides[0], columns * strides[1]
    x = jnp.pad(x, [(0, 0), *((0, max(0, n - m)) for n, m in zip(need, x.shape[1:3])), (0, 0)])[:, : need[0], : need[1]]
    x = x.reshape(len(x), rows, strides[0], columns, strides[1], channels).swapaxes(2, 3)
    x = x.reshape(len(x), rows, columns, block)
    kernel = jnp.pad(kernel, [(0, n * s - k) for n, s, k in zip((tall, wide), strides, size)] + [(0, 0)] * 2)
    kernel = kernel.reshape(tall, strides[0], wide, strides[1], channels, filters).swapaxes(1, 2)
    kernel = kernel.reshape(tall, wide * block, filters)
    x = jnp.concatenate([x[:, :, j : j + width] for j in range(wide)], -1)
    products = (x[:, i : i + height].reshape(-1, wide * block) @ kernel[i] for i in range(tall))
    return reduce(jnp.add, products).reshape(len(x), height, width, filters)


def in_parts(f: Callable[[Array], Array], x: Array, most: int) -> Array:
    """`f(x)` of rows [B, ...], for at most `most` of them at a time.

    What `f` computes on the way stays in the CPU's caches, and is computed again for the gradient instead of being
    kept: measured on the networks of `nets/cnn.py`, that is faster and takes a tenth of the memory, or less.
    """
    count = x.shape[0]
    if count <= most:
        return f(x)
    parts = -(-count // most)
    size = -(-count // parts)
    x = jnp.pad(x, [(0, parts * size - count)] + [(0, 0)] * (x.ndim - 1))
    y = jax.lax.map(jax.checkpoint(f, prevent_cse=False), x.reshape(parts, size, *x.shape[1:]))
    return y.reshape(parts * size, *y.shape[2:])[:count]


def halved(x: Array) -> Array:
    """The largest of each 3 x 3 pixels in steps of 2, [B, H, W, C] to [B, ceil(H / 2), ceil(W / 2), C].

    By maxima of shifted images, whose gradient is faster than that of a windowed reduction.
    """
    for axis in (1, 2):
        n = x.shape[axis]
        m = -(-n // 2)
        short = 2 * m + 1 - n  # padded as for "SAME": the larger half behind
        pad = [(0, 0)] * x.ndim
        pad[axis] = (short // 2, short - short // 2)
        padded = jnp.pad(x, pad, constant_values=-jnp.inf)
        x = reduce(jnp.maximum, (jax.lax.slice_in_dim(padded, i, i + 2 * m - 1, 2, axis) for i in range(3)))
    return x
