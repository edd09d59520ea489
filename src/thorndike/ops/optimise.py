"""One gradient step, and what it tells of the health of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from thorndike.types import Array, Metrics, PyTree


def adam(learning_rate: Array | float, max_grad_norm: Array | float | None = None, eps: float = 1e-8):
    """Adam (Kingma & Ba 2015), after clipping the gradient's global norm where `max_grad_norm` is given."""
    step = optax.adam(learning_rate, eps=eps)
    return step if max_grad_norm is None else optax.chain(optax.clip_by_global_norm(max_grad_norm), step)  # type: ignore[arg-type]


LARGE = 16_384  # elements from which on a parameter is not worth copying into a vector


def begin(optimiser: Any, params: PyTree) -> PyTree:
    """The optimiser's state before its first step."""
    return optimiser.init(packed(params)[0])


def packed(params: PyTree) -> tuple[tuple[Array, list[Array]], Callable[[Any], PyTree]]:
    """What the optimiser sees of a tree of parameters, and the way back.

    All small parameters are one vector to it, a few kernels in the place of several for every layer; large ones, whose
    copying would cost more than their kernels, stay as they are.
    """
    leaves, structure = jax.tree.flatten(params)
    vector, restore = ravel_pytree([x for x in leaves if x.size < LARGE])

    def unpacked(parts: tuple[Array, list[Array]]) -> PyTree:
        small, large = iter(restore(parts[0])), iter(parts[1])
        return jax.tree.unflatten(structure, [next(small if x.size < LARGE else large) for x in leaves])

    return (vector, [x for x in leaves if x.size >= LARGE]), unpacked


def descend(optimiser: Any, gradient: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree, Metrics]:
    """Apply one step; returns the new parameters, the new optimiser state and two norms."""
    (parts, unpacked), (gradient, _) = packed(params), packed(gradient)
    updates, state = optimiser.update(gradient, state, parts)
    norms = {"gradient_norm": optax.tree.norm(gradient), "update_norm": optax.tree.norm(updates)}
    return unpacked(optax.apply_updates(parts, updates)), state, norms


def polyak(target: PyTree, online: PyTree, tau: Array | float) -> PyTree:
    """Soft copy θ⁻ <- θ⁻ + τ (θ - θ⁻)."""
    return jax.tree.map(lambda t, o: (1 - tau) * t + tau * o, target, online)  # a copy, to the bit, at τ = 1


def every(step: Array, period: int, new: PyTree, old: PyTree) -> PyTree:
    """`new` when `step` is a multiple of `period`, else `old`; for trees of parameters, not of data."""
    return new if period == 1 else jax.tree.map(lambda n, o: jnp.where(step % period == 0, n, o), new, old)
