"""Batch renormalisation: layers that are normalised by the statistics of a batch, and of all batches so far.

Parameters are learned; the running statistics are not, and so no part of the network: a pass takes them, and a pass in
training gives new ones. Batches have one leading axis, [B, F].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.nets.mlp import ACTIVATIONS, Dense, gain_of
from thorndike.types import Array

EPSILON = 1e-3
SCALE, SHIFT = 3.0, 5.0  # r_max and d_max


class Moments(NamedTuple):
    """Running mean and variance of each feature, [F]."""

    mean: Array
    var: Array


class Training(NamedTuple):
    """How a pass in training treats its batch."""

    momentum: Array | float  # what is kept of the running statistics
    renorm: Array | bool  # whether batches are corrected towards them


class BatchRenorm(eqx.Module):
    """s x̂ + b with x̂ = (x - μ_B) / σ_B · r + d (Ioffe 2017, algorithm 1).

    r = clip(σ_B / σ, 1/3, 3) and d = clip((μ_B - μ) / σ, -5, 5) have no gradient: batches are seen as by the running
    μ and σ, with the gradients of batch normalisation (Ioffe & Szegedy 2015). Without `renorm` r = 1 and d = 0, and
    without `training` x̂ = (x - μ) / σ.
    """

    scale: Array  # s [F]
    bias: Array  # b [F]

    def __init__(self, features: int):
        self.scale, self.bias = jnp.ones(features), jnp.zeros(features)

    def __call__(self, x: Array, running: Moments, training: Training | None) -> tuple[Array, Moments]:
        """The normalised batch [B, F], and the running statistics after it."""
        if training is None:
            return self.scale * (x - running.mean) * jax.lax.rsqrt(running.var + EPSILON) + self.bias, running
        mean, var = x.mean(0), x.var(0)
        std, usual = jnp.sqrt(var + EPSILON), jnp.sqrt(running.var + EPSILON)
        r = jnp.where(training.renorm, jnp.clip(std / usual, 1 / SCALE, SCALE), 1.0)
        d = jnp.where(training.renorm, jnp.clip((mean - running.mean) / usual, -SHIFT, SHIFT), 0.0)
        r, d = jax.lax.stop_gradient((r, d))
        keep = training.momentum
        after = Moments(keep * running.mean + (1 - keep) * mean, keep * running.var + (1 - keep) * var)
        return self.scale * ((x - mean) / std * r + d) + self.bias, jax.lax.stop_gradient(after)


class NormalisedMLP(eqx.Module):
    """Dense layers, each with an activation; the input and every activation are normalised: [B, sizes[0]] to
    [B, sizes[-1]]."""

    layers: tuple[Dense, ...]
    norms: tuple[BatchRenorm, ...]  # of the input, and behind each layer
    activation: str = eqx.field(static=True)

    def __init__(self, key: Array, sizes: Sequence[int], activation: str = "relu", init: str = "orthogonal"):
        keys = jax.random.split(key, max(1, len(sizes) - 1))
        self.layers = tuple(Dense(k, i, o, gain_of(init), init) for k, i, o in zip(keys, sizes[:-1], sizes[1:]))
        self.norms = tuple(map(BatchRenorm, sizes))
        self.activation = activation

    def blank(self) -> tuple[Moments, ...]:
        """Running statistics of nothing yet: mean 0, variance 1."""
        return tuple(Moments(jnp.zeros_like(norm.bias), jnp.ones_like(norm.scale)) for norm in self.norms)

    def __call__(
        self, x: Array, running: tuple[Moments, ...], training: Training | None
    ) -> tuple[Array, tuple[Moments, ...]]:
        """Features, and the running statistics after this batch: the given ones where it is not for training."""
        x, moments = self.norms[0](x, running[0], training)
        after = [moments]
        for layer, norm, moments in zip(self.layers, self.norms[1:], running[1:]):
            x, moments = norm(ACTIVATIONS[self.activation](layer(x)), moments, training)
            after.append(moments)
        return x, tuple(after)
