"""Multilayer perceptrons and their initialisation; modules hold array leaves only."""

from __future__ import annotations

from collections.abc import Sequence

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

    x = jax.lax.fori_loop(0, 40, iterate, x)
    return gain * (x if tall else x.T)


def uniform(key: Array, shape: tuple[int, int], gain: Array | float = 1.0) -> Array:
    """U(-b, b) with b = gain / sqrt(inputs), the common default of deep learning libraries."""
    bound = gain / jnp.sqrt(shape[0])
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class Dense(eqx.Module):
    """y = x W + b, on the last axis."""

    weight: Array  # [in, out]
    bias: Array  # [out]

    def __init__(self, key: Array, inputs: int, outputs: int, gain: float = 1.0, init: str = "orthogonal"):
        if init == "orthogonal":
            self.weight, self.bias = orthogonal(key, (inputs, outputs), gain), jnp.zeros(outputs)
        else:
            wkey, bkey = jax.random.split(key)
            self.weight = uniform(wkey, (inputs, outputs), gain)
            self.bias = jax.random.uniform(bkey, (outputs,), minval=-1, maxval=1) * gain / jnp.sqrt(inputs)

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


class MLP(eqx.Module):
    """Linear layers with an activation after each: [..., sizes[0]] to [..., sizes[-1]]."""

    layers: tuple[Dense, ...]
    activation: str = eqx.field(static=True)

    def __init__(self, key: Array, sizes: Sequence[int], activation: str = "tanh", init: str = "orthogonal"):
        gain = 2.0**0.5 if init == "orthogonal" else 1.0
        keys = jax.random.split(key, max(1, len(sizes) - 1))
        self.layers = tuple(Dense(k, i, o, gain, init) for k, i, o in zip(keys, sizes[:-1], sizes[1:]))
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = ACTIVATIONS[self.activation](layer(x))
        return x
