"""What families of tasks have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from thorndike.types import Array, PyTree, Step


class Placed(NamedTuple):
    """A task, and where the agent is in it."""

    task: PyTree
    place: Array


def drawn(family: Any, key: Array) -> Step:
    """The beginning of an episode in a task that is drawn anew."""
    tkey, key = jax.random.split(key)
    return family.begin(family.task(tkey), key)
