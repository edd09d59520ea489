"""Passes over a batch in shuffled minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from thorndike.ops.keys import permutation
from thorndike.types import Array, Metrics, PyTree


def passes(
    step: Callable[[Any, PyTree], tuple[Any, Metrics]], start: Any, rows: PyTree, count: int, times: int, key: Array
) -> tuple[Any, Metrics]:
    """What `step(carry, minibatch) -> carry, metrics` ends with, and the means of its metrics.

    Args:
        start: the carry of the first step.
        rows: what is learned from, [N, ...]; the minibatches of a pass are N // count other rows each, and what is
            left over is another part in each pass.
        count: minibatches of a pass.
        times: passes, each in an order of its own.
    """
    n = jax.tree.leaves(rows)[0].shape[0]
    each = n // count

    def one(carry: Any, key: Array) -> tuple[Any, Metrics]:
        order = permutation(key, n)[: count * each].reshape(count, each)
        return jax.lax.scan(step, carry, jax.tree.map(lambda x: x[order], rows))

    end, metrics = jax.lax.scan(one, start, jax.random.split(key, times))
    return end, jax.tree.map(jnp.mean, metrics)
