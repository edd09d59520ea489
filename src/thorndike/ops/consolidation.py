"""Elastic weight consolidation: what an old task needs of the parameters is held while a new one is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from thorndike.envs.conformance import difference
from thorndike.ops.losses import Added
from thorndike.types import Array, Metrics, PyTree

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


def held(weight: Array | float | None, given: dict[str, tuple[Any, ...]] | None) -> tuple[Added, ...]:
    """λ ½ Σ F (θ - θ*)² beside a loss, for the policy of each "anchor" with its "importance"; nothing without any.

    The metric `consolidation` is the sum of ½ Σ F (θ - θ*)².
    """
    if given is None:
        return ()
    pairs = [(anchor.actor.policy, one.actor.policy) for anchor, one in zip(given["anchor"], given["importance"])]

    def loss(params: Any, more: Any, pi: Any, rows: Any) -> tuple[Array, Metrics]:
        total = jnp.stack([penalty(params.policy, *pair) for pair in pairs]).sum()
        return jnp.asarray(weight) * total, {"consolidation": total}

    return (Added(loss),)


def misplaced(anchors: Sequence[Any], importance: Sequence[Any], policy: PyTree) -> str | None:
    """None where all of these are agents with such a `policy`, by shapes, and each anchor has its importance; else one
    sentence."""
    if len(anchors) != len(importance):
        return f"each anchor has its importance: given are {len(anchors)} and {len(importance)}"
    for one in (*anchors, *importance):
        theirs = getattr(one.actor, "policy", ())
        if difference(policy, jax.eval_shape(lambda theirs=theirs: theirs)) is not None:
            return "an anchor has to have the policy's own network: start from it, with the same torso"
    return None
