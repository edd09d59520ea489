"""Optimisers as values, one gradient step, and what it tells of the health of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from thorndike.configuration import config
from thorndike.domains import NonNegative, Static
from thorndike.types import Array, Metrics, PyTree


@config
class Adam:
    """Adam (Kingma & Ba 2015); with `weight_decay` AdamW (Loshchilov & Hutter 2019)."""

    b1: Static = 0.9  # decay of the mean of gradients
    b2: Static = 0.999  # decay of the mean of their squares
    eps: Static = 1e-8  # added to the root of the latter
    weight_decay: NonNegative | None = None  # times the learning rate, taken from each parameter in each step

    def build(self, learning_rate: Array | float, max_grad_norm: Array | float | None = None):
        """The optax transformation; the gradient's global norm is clipped first where `max_grad_norm` is given."""
        if self.weight_decay is None:
            return clipped(optax.adam(learning_rate, self.b1, self.b2, self.eps), max_grad_norm)
        step = optax.adamw(learning_rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay)  # type: ignore[arg-type]
        return clipped(step, max_grad_norm)


@config
class RAdam:
    """Rectified Adam (Liu et al. 2020): small steps while the mean of squares is of few gradients."""

    b1: Static = 0.9
    b2: Static = 0.999
    eps: Static = 1e-8

    def build(self, learning_rate: Array | float, max_grad_norm: Array | float | None = None):
        """The optax transformation; the gradient's global norm is clipped first where `max_grad_norm` is given."""
        return clipped(optax.radam(learning_rate, self.b1, self.b2, self.eps), max_grad_norm)


@config
class RMSProp:
    """RMSProp (Tieleman & Hinton 2012), with ε inside of the root as in A3C (Mnih et al. 2016) and TensorFlow."""

    decay: Static = 0.99  # of the mean of squares
    eps: Static = 1e-5
    momentum: Static = 0.0

    def build(self, learning_rate: Array | float, max_grad_norm: Array | float | None = None):
        """The optax transformation; the gradient's global norm is clipped first where `max_grad_norm` is given."""
        momentum = self.momentum or None
        step = optax.rmsprop(learning_rate, self.decay, self.eps, eps_in_sqrt=True, momentum=momentum)
        return clipped(step, max_grad_norm)


@config
class LaProp:
    """LaProp (Ziyin et al. 2020): gradients are divided by the root of their mean square first, and averaged then."""

    b1: Static = 0.9  # decay of the mean of divided gradients
    b2: Static = 0.999  # decay of the mean of squares
    eps: Static = 1e-20  # added to the root of the latter

    def build(self, learning_rate: Array | float, max_grad_norm: Array | float | None = None):
        """The optax transformation; the gradient's global norm is clipped first where `max_grad_norm` is given."""
        scaled = optax.scale_by_rms(self.b2, self.eps, eps_in_sqrt=False, bias_correction=True)
        step = optax.chain(scaled, optax.ema(self.b1), optax.scale_by_learning_rate(learning_rate))
        return clipped(step, max_grad_norm)


@config
class SGD:
    """Stochastic gradient descent."""

    momentum: Static = 0.0

    def build(self, learning_rate: Array | float, max_grad_norm: Array | float | None = None):
        """The optax transformation; the gradient's global norm is clipped first where `max_grad_norm` is given."""
        return clipped(optax.sgd(learning_rate, self.momentum or None), max_grad_norm)


Optimiser = Adam | RAdam | RMSProp | LaProp | SGD


def clipped(step: optax.GradientTransformation, max_grad_norm: Any) -> optax.GradientTransformation:
    """The gradient is scaled down to a global norm before the step, where one is given."""
    return step if max_grad_norm is None else optax.chain(optax.clip_by_global_norm(max_grad_norm), step)


def clip_norm(gradient: PyTree, limit: Array | float) -> PyTree:
    """The gradient, scaled down to a global norm of at most `limit`."""
    norm = optax.tree.norm(gradient)
    return jax.tree.map(lambda x: x * jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12)), gradient)


def clip_each(gradient: PyTree, params: PyTree, limit: Array | float) -> PyTree:
    """Adaptive gradient clipping (Brock et al. 2021) by whole arrays: |g| is at most `limit` · max(|θ|, 10⁻³)."""

    def one(g: Array, x: Array) -> Array:
        most = limit * jnp.maximum(jnp.linalg.norm(x.ravel()), 1e-3)
        return g * jnp.minimum(1.0, most / jnp.maximum(jnp.linalg.norm(g.ravel()), 1e-12))

    return jax.tree.map(one, gradient, params)


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


def delayed(
    step: Array, period: int, improve: Callable[[], tuple[PyTree, Metrics]], parts: PyTree
) -> tuple[PyTree, Metrics]:
    """`improve()`, which is new parts and metrics, when `step` is a multiple of `period`, else `parts` and zeros.

    The metrics are times `period`: their mean over all steps is then that over the improvements.
    """
    if period == 1:
        return improve()
    none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(improve)[1])

    def improved() -> tuple[PyTree, Metrics]:
        new, metrics = improve()
        return new, jax.tree.map(lambda x: period * x, metrics)

    return jax.lax.cond(step % period == 0, improved, lambda: (parts, none))
