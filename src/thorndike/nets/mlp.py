"""Multilayer perceptrons and their initialisation; modules hold array leaves only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.types import Array

ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
Activation = Literal["tanh", "relu", "elu", "gelu", "silu"]
Init = Literal["orthogonal", "uniform", "he", "xavier"]


LARGE = 2**20  # numbers in a matrix from which on a tall one is made orthogonal by its Gram matrix


def orthogonal(key: Array, shape: tuple[int, int], gain: Array | float = 1.0) -> Array:
    """A matrix with orthonormal rows or columns, times `gain` (Saxe et al. 2014).

    By Newton-Schulz iteration on a Gaussian matrix, X <- X (3 I - XᵀX) / 2, which uses matrix products only: QR
    under `vmap` can hang on the CPU backend.
    """
    tall = shape[0] >= shape[1]
    x = jnp.clip(jax.random.normal(key, shape if tall else shape[::-1]), -4, 4)  # a 1 x 1 of 5 would diverge
    x = x / (1.1 * (jnp.sqrt(x.shape[0]) + jnp.sqrt(x.shape[1])))  # largest singular value about 0.9

    def iterate(_, x):
        return 1.5 * x - 0.5 * x @ (x.T @ x)

    if x.size >= LARGE and x.shape[0] >= 4 * x.shape[1]:
        x = iterate(0, x @ inverse_root(x.T @ x))
    else:
        x = jax.lax.fori_loop(0, 40, iterate, x)
    return gain * (x if tall else x.T)


def inverse_root(a: Array) -> Array:
    """a^(-1/2) of a symmetric matrix with eigenvalues in about [0.05, 1] (Higham 2008, chapter 6).

    Of X (XᵀX)^(-1/2) only two products are as tall as X: for the layer behind a board of 19 x 19 the iteration on X
    itself takes ten times as long.
    """
    eye = jnp.eye(a.shape[0])

    def iterate(_, pair):
        y, z = pair
        t = 1.5 * eye - 0.5 * z @ y
        return y @ t, t @ z

    return jax.lax.fori_loop(0, 15, iterate, (a, eye))[1]


def uniform(key: Array, shape: tuple[int, int], gain: Array | float = 1.0) -> Array:
    """U(-b, b) with b = gain / sqrt(inputs), the common default of deep learning libraries."""
    bound = gain / jnp.sqrt(shape[0])
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def he(key: Array, shape: tuple[int, int], gain: Array | float = 1.0) -> Array:
    """N(0, gain² · 2 / inputs), for ReLU (He et al. 2015)."""
    return gain * jnp.sqrt(2.0 / shape[0]) * jax.random.normal(key, shape)


def xavier(key: Array, shape: tuple[int, int], gain: Array | float = 1.0, places: int = 1) -> Array:
    """U(-b, b) with b = gain · sqrt(6 / (inputs + outputs)) (Glorot & Bengio 2010).

    `places` is the number of places of a convolution's kernel: shape is [places · channels, filters], and each pixel
    of the input is read by places · filters outputs.
    """
    bound = gain * jnp.sqrt(6.0 / (shape[0] + places * shape[1]))
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def weights(
    key: Array, shape: tuple[int, int], gain: float = 1.0, init: str = "orthogonal", places: int = 1
) -> tuple[Array, Array]:
    """A matrix [in, out] and biases [out] by one of the four schemes; only "uniform" draws biases, others are 0."""
    if init == "uniform":
        wkey, bkey = jax.random.split(key)
        weight = uniform(wkey, shape, gain)
        return weight, jax.random.uniform(bkey, shape[1:], minval=-1, maxval=1) * gain / jnp.sqrt(shape[0])
    if init == "xavier":
        return xavier(key, shape, gain, places), jnp.zeros(shape[1])
    return {"orthogonal": orthogonal, "he": he}[init](key, shape, gain), jnp.zeros(shape[1])


def gain_of(init: str) -> float:
    """The gain of hidden layers: the square root of 2 for orthogonal ones, 1 for those whose scheme includes it."""
    return 2.0**0.5 if init == "orthogonal" else 1.0


class Dense(eqx.Module):
    """y = x W + b, on the last axis."""

    weight: Array  # [in, out]
    bias: Array  # [out]

    def __init__(self, key: Array, inputs: int, outputs: int, gain: float = 1.0, init: str = "orthogonal"):
        self.weight, self.bias = weights(key, (inputs, outputs), gain, init)

    def __call__(self, x: Array) -> Array:
        rows = x.reshape(-1, x.shape[-1])  # one plain matrix product, backwards too, whatever the leading axes
        weight = turned(self.weight) if 1 < self.bias.size <= rows.shape[-1] // 8 else self.weight
        return (rows @ weight + self.bias).reshape(*x.shape[:-1], -1)


def turned(weight: Array) -> Array:
    """The weight itself, known to the compiler as its transpose.

    Its gradient is then that of few rows, gᵀx, and not xᵀg, which has few columns: there the CPU's matrix product takes
    three to nine times as long.
    """
    return jax.lax.optimization_barrier(weight.T).T


class LayerNorm(eqx.Module):
    """s (x - mean) / sqrt(var + ε) + b over the last axis (Ba et al. 2016)."""

    scale: Array  # s [F]
    bias: Array  # b [F]

    def __init__(self, features: int):
        self.scale, self.bias = jnp.ones(features), jnp.zeros(features)

    def __call__(self, x: Array) -> Array:
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return self.scale * (x - mean) * jax.lax.rsqrt(var + 1e-5) + self.bias


def dropped(key: Array, x: Array, rate: float) -> Array:
    """Dropout (Srivastava et al. 2014): zeros with probability `rate`, the rest divided by 1 - rate."""
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)


class MLP(eqx.Module):
    """Dense layers with an activation after each: [..., sizes[0]] to [..., sizes[-1]].

    A layer is linear, dropout, layer normalisation, activation (the order of Hiraoka et al. 2022). Dropout is active
    only where a key is given.
    """

    layers: tuple[Dense, ...]
    norms: tuple[LayerNorm, ...]  # one for each layer, or none
    activation: str = eqx.field(static=True)
    dropout: float | None = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        sizes: Sequence[int],
        activation: str = "tanh",
        init: str = "orthogonal",
        norm: str = "none",
        dropout: float | None = None,
    ):
        keys = jax.random.split(key, max(1, len(sizes) - 1))
        gain = gain_of(init)
        self.layers = tuple(Dense(k, i, o, gain, init) for k, i, o in zip(keys, sizes[:-1], sizes[1:]))
        self.norms = tuple(LayerNorm(size) for size in sizes[1:]) if norm == "layer" else ()
        self.activation, self.dropout = activation, dropout

    def __call__(self, x: Array, key: Array | None = None) -> Array:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.dropout is not None and key is not None:
                x = dropped(jax.random.fold_in(key, i), x, self.dropout)
            x = self.norms[i](x) if self.norms else x
            x = ACTIVATIONS[self.activation](x)
        return x
