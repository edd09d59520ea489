"""What tells of the health of a value function: its overestimation, its features, the weights that it learns with."""

from __future__ import annotations

import jax.numpy as jnp

from thorndike.types import Array


def overestimation(judged: Array, chooser: Array) -> Array:
    """E[max_a Q(s, a) - Q(s, argmax_a Q'(s, a))]: how far the maximum of noisy estimates Q [..., A] lies above what
    they say of the action that others, Q' [..., A], choose (van Hasselt et al. 2016). 0 where both choose alike."""
    chosen = jnp.take_along_axis(judged, chooser.argmax(-1)[..., None], -1)[..., 0]
    return (judged.max(-1) - chosen).mean()


def action_gap(values: Array) -> Array:
    """Mean difference between the best and the second best action of values [..., A]; 0 of one action."""
    if values.shape[-1] == 1:
        return jnp.float32(0)
    ordered = jnp.sort(values, -1)
    return (ordered[..., -1] - ordered[..., -2]).mean()


def effective_rank(features: Array) -> Array:
    """(tr G)² / tr G² of the Gram matrix G of features [..., F]: how many directions they use, from 1 to F.

    The participation ratio of G's eigenvalues, without computing these.
    """
    rows = features.reshape(-1, features.shape[-1])
    gram = rows.T @ rows
    return jnp.trace(gram) ** 2 / jnp.maximum((gram**2).sum(), 1e-30)


def dead_units(features: Array) -> Array:
    """The share of features [..., F] that are the same in all rows: of ReLUs, those that never fire."""
    rows = features.reshape(-1, features.shape[-1])
    return (rows.max(0) == rows.min(0)).mean()


def effective_share(weight: Array) -> Array:
    """(Σ w)² / (n Σ w²) of n weights: 1 where they are equal, 1/n where one of them has all."""
    return weight.sum() ** 2 / (weight.size * (weight**2).sum())
