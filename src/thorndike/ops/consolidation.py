"""Elastic weight consolidation: what an old task needs of the parameters is held while a new one is learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from thorndike.types import Array, PyTree

CHUNK = 128  # samples whose gradients are in memory at once


def fisher(log_prob: Callable[[PyTree, Any], Array], params: PyTree, samples: PyTree) -> PyTree:
    """The diagonal of the Fisher information, F = E[(∇_θ log π_θ(a | s))²] (Kirkpatrick et al. 2017, below equation 3).

    The gradient of each sample is squared by itself: the square of their mean goes to zero with more samples.

    Args:
        log_prob: of the parameters and one sample, log π(a | s); actions have to be the policy's own.
        samples: leaves [N, ...]; of the last N mod `CHUNK` of more than `CHUNK` nothing is read.
    """
    n = jax.tree.leaves(samples)[0].shape[0]
    size = min(n, CHUNK)
    chunks = jax.tree.map(lambda x: x[: n // size * size].reshape((-1, size, *x.shape[1:])), samples)
    gradients = jax.vmap(jax.grad(log_prob), in_axes=(None, 0))

    def add(total: PyTree, chunk: PyTree) -> tuple[PyTree, None]:
        squares = jax.tree.map(lambda g: (g**2).mean(0), gradients(params, chunk))
        return jax.tree.map(jnp.add, total, squares), None

    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), chunks)
    return jax.tree.map(lambda x: x / (n // size), total)


def penalty(params: PyTree, anchor: PyTree, importance: PyTree) -> Array:
    """½ Σ F (θ - θ*)² (equation 3, without λ)."""
    terms = jax.tree.map(lambda x, old, f: (f * (x - old) ** 2).sum(), params, anchor, importance)
    return 0.5 * sum(jax.tree.leaves(terms))  # type: ignore[return-value]


def anchored(gradient: PyTree, params: PyTree, anchor: PyTree, importance: PyTree, weight: Array | float) -> PyTree:
    """The gradient of a loss with λ ½ Σ F (θ - θ*)² added to it: each is ∇ + λ F (θ - θ*)."""
    return jax.tree.map(lambda g, x, old, f: g + weight * f * (x - old), gradient, params, anchor, importance)
