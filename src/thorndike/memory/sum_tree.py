"""A sum tree in arrays: the leaves, and levels of sums over groups of `FAN`, so that leaves are drawn by their mass.

Sums are recomputed from the children whenever a leaf changes, never corrected by differences: those would drift away,
until leaves without mass are drawn.
"""

from __future__ import annotations

import jax.numpy as jnp

from thorndike.types import Array

FAN = 16
Levels = tuple[Array, ...]  # the leaves first; each level has a whole number of groups


def zeros(n: int) -> Levels:
    """A tree of at least n leaves without mass."""
    sizes = [-(-n // FAN) * FAN]
    while sizes[-1] > FAN:
        sizes.append(-(-(sizes[-1] // FAN) // FAN) * FAN)
    return tuple(jnp.zeros(size) for size in sizes)


def put(levels: Levels, index: Array, mass: Array) -> Levels:
    """The tree with other masses [N] of the leaves at `index` [N]; of equal indices any one counts."""
    done, level = [], levels[0].at[index].set(mass)
    for above in levels[1:]:
        done.append(level)
        index = index // FAN
        level = above.at[index].set(level.reshape(-1, FAN)[index].sum(-1))
    return (*done, level)


def total(levels: Levels) -> Array:
    """The mass of all leaves."""
    return levels[-1].sum()


def find(levels: Levels, mass: Array) -> tuple[Array, Array]:
    """The leaf that each of the cumulative masses [N] falls in, and its mass; mass 0 falls in the first with any."""
    node = jnp.zeros(mass.shape, jnp.int32)
    own = mass
    for level in reversed(levels):
        group = level.reshape(-1, FAN)[node]
        upto = group.cumsum(-1)
        last = FAN - 1 - (group[:, ::-1] > 0).argmax(-1)  # rounding must not lead to a leaf without mass
        child = jnp.minimum((upto <= mass[:, None]).sum(-1), last)
        own, end = (jnp.take_along_axis(x, child[:, None], 1)[:, 0] for x in (group, upto))
        mass, node = mass - (end - own), node * FAN + child
    return node, own
