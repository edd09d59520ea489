"""Networks of your own: an Equinox module as a part of an agent."""

from __future__ import annotations

import types
from typing import Any

import equinox as eqx
import jax
import numpy as np

from thorndike.errors import ConfigError
from thorndike.types import PyTree


class FromEquinox(eqx.Module):
    """An Equinox module, safe under `jax.jit`, `jax.vmap` and `jax.grad` whatever it holds.

    Equinox keeps functions and numbers beside a module's arrays, as leaves of the same tree (`eqx.nn.MLP` its
    activation), and leaves it to `eqx.filter_jit` to tell them apart. Here only its arrays of floats are leaves, which
    are learned and saved; all else belongs to the tree's structure. It is called, and `features` is read, as the
    module's own.

    Raises `ConfigError` for arrays that cannot be learned (of whole numbers, random keys): keep these as static fields.
    """

    arrays: PyTree
    rest: Rest = eqx.field(static=True)

    def __init__(self, module: Any):
        self.arrays, rest = eqx.partition(module, eqx.is_inexact_array)
        leaves, structure = jax.tree.flatten(rest)
        for leaf in leaves:
            if isinstance(leaf, (jax.Array, np.ndarray)):
                kind = f"{type(module).__name__} holds {leaf.dtype}{list(leaf.shape)}"
                raise ConfigError(f"{kind}, which cannot be learned: make it a static field, such as a tuple")
        self.rest = Rest(leaves, structure)

    @property
    def module(self) -> Any:
        """The module itself."""
        return eqx.combine(self.arrays, self.rest.tree)

    @property
    def features(self) -> int:
        """How many numbers it makes of an observation."""
        return self.module.features

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class Rest:
    """The leaves of a tree that are no arrays; equal to another one whose functions have the same code.

    A lambda that is made anew by each call of `build` is another object each time, and what was compiled for one
    network would not take the next.
    """

    def __init__(self, leaves: list[Any], structure: Any):
        self.tree = jax.tree.unflatten(structure, leaves)
        self._same = (structure, *map(_essence, leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rest) and self._same == other._same

    def __hash__(self) -> int:
        return hash(self._same)


def _essence(leaf: Any) -> Any:
    """What makes two leaves equal: of a plain function, its code and what it refers to."""
    if not isinstance(leaf, types.FunctionType):
        return leaf
    try:
        essence = leaf.__code__, leaf.__defaults__, tuple(cell.cell_contents for cell in leaf.__closure__ or ())
        hash(essence)
    except (TypeError, ValueError):  # it refers to lists, or to nothing yet
        return leaf
    return essence
