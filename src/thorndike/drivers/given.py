"""What an algorithm is given beside its settings: arrays that it reads and never changes, such as trained agents.

A config cannot hold arrays (they would be a sweep), and a program that closed over them would have them as constants.
So they travel with the algorithm, as one pytree, into every compiled program of a driver. They are no part of a run's
state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from thorndike.types import PyTree

LEARNING = ("learn", "learn_late", "update")  # methods that get `given`


@partial(jax.tree_util.register_dataclass, data_fields=["algorithm", "given"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Bound:
    """An algorithm, and what it is given: with its protocol, where those methods that learn get `given`, too."""

    algorithm: Any
    given: dict[str, PyTree]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("algorithm", "given"):  # the latter while JAX builds one
            raise AttributeError(name)
        found = getattr(self.algorithm, name)
        return partial(found, given=self.given) if name in LEARNING else found


def unbound(algorithm: Any) -> Any:
    """The algorithm without what it is given."""
    return algorithm.algorithm if isinstance(algorithm, Bound) else algorithm


def map_settings(f: Callable[[Any], Any], config: Any) -> Any:
    """`jax.tree.map(f, config)` over the numbers of an algorithm or an environment, not over what is given beside."""
    if isinstance(config, Bound):
        return Bound(jax.tree.map(f, config.algorithm), config.given)
    return jax.tree.map(f, config)
