"""What prioritised memories know of their rows: proportional priorities (Schaul et al. 2016, section 3.3).

P(i) = p_i^α / Σ_k p_k^α,    w_i = (N P(i))^-β / max_j w_j

The ranking is small beside the rows, and the only part of a memory that learning rewrites.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from thorndike.configuration import require
from thorndike.memory import sum_tree
from thorndike.types import Array, Metrics

LEAST = 1e-6  # ε: added to priorities, so that no row is lost for ever


class Ranking(NamedTuple):
    """p^α of every row, and the highest p so far."""

    levels: sum_tree.Levels
    highest: Array


def unranked(rows: int) -> Ranking:
    """No row has been written."""
    return Ranking(sum_tree.zeros(rows), jnp.float32(1.0))


def enter(ranking: Ranking, rows: Array, alpha: Array | float) -> Ranking:
    """With new `rows` [N] at the highest priority so far: each is to be drawn once, whatever its error."""
    levels = sum_tree.put(ranking.levels, rows, jnp.full(rows.shape, ranking.highest**alpha))
    return ranking._replace(levels=levels)


def draw(ranking: Ranking, n: int, size: Array, beta: Array | float, key: Array) -> tuple[Array, Array]:
    """n rows, one from each of as many parts of equal mass, and their weights w; `size` rows are filled."""
    whole = sum_tree.total(ranking.levels)
    index, mass = sum_tree.find(ranking.levels, (jnp.arange(n) + jax.random.uniform(key, (n,))) / n * whole)
    weight = (size * mass / whole) ** -beta
    return index, weight / weight.max()


def told(metrics: Metrics, by: str, shape: tuple[int, ...]) -> Array:
    """The size of the metric `by` of an update, a number for each of what was drawn, [*shape].

    Raises:
        ConfigError: the algorithm tells no such metric, or one number for the whole batch.
    """
    each = [name for name, x in metrics.items() if jnp.size(x) == math.prod(shape)]
    there = f"tell {', '.join(each)}" if each else "tell nothing"
    require(by in each, f"replay.by is {by!r}, but the updates of this algorithm {there} of each row of a batch")
    return jnp.abs(metrics[by]).reshape(shape)


def refresh(ranking: Ranking, index: Array, weight: Array, error: Array, alpha: Array | float) -> Ranking:
    """With the priorities |error| + ε [N] of the rows `index` that were drawn with `weight`."""
    priority = jnp.abs(error) + LEAST
    # The levels have been read by then: without the barrier XLA might write first, into a copy.
    levels, priority, _ = jax.lax.optimization_barrier((ranking.levels, priority, weight))
    levels = sum_tree.put(levels, index, priority**alpha)
    return Ranking(levels, jnp.maximum(ranking.highest, priority.max()))
