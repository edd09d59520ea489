"""Losses and measures of fit, elementwise or over a whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from thorndike.types import Array, Metrics, PyTree


class Added(NamedTuple):
    """A loss that is added to an algorithm's own."""

    # of θ, further layers, π and the minibatch's rows
    loss: Callable[[Any, PyTree, Any, PyTree], tuple[Array, Metrics]]
    rows: PyTree = ()  # what it reads of each step, [T, E, ...]; minibatches are drawn from it as from all else


def huber(error: Array, delta: Array | float = 1.0) -> Array:
    """Huber loss (1964): ½ e² for |e| <= δ, else δ (|e| - ½ δ); elementwise."""
    size = jnp.abs(error)
    inside = jnp.minimum(size, delta)
    return 0.5 * inside**2 + delta * (size - inside)


def explained_variance(prediction: Array, target: Array) -> Array:
    """1 - Var[target - prediction] / Var[target] over all axes: 1 is perfect, 0 no better than the mean."""
    variance = target.var()
    return 1.0 - (target - prediction).var() / jnp.maximum(variance, 1e-8)


def standardise(x: Array) -> Array:
    """(x - mean) / std over all axes."""
    return (x - x.mean()) / (x.std() + 1e-8)
