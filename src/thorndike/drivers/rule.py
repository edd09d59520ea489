"""Policies that nobody trained, in the place of an algorithm: a rule of the user's own, and random actions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.dtypes import canonicalize_dtype

from thorndike.drivers.learner import random_action
from thorndike.errors import ConfigError
from thorndike.types import Array, PyTree, Spec, Timestep


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """A function of one observation, in Python and NumPy, that gives an action as the environment takes it.

    It is called on the host, also where the environment is compiled.
    """

    function: Callable[[Any], Any]
    spec: Spec

    def __post_init__(self) -> None:
        name = getattr(self.function, "__name__", str(self.function))
        if not callable(self.function):
            raise ConfigError(f"a rule is a function of an observation, got {self.function!r}")
        try:
            action = self.function(self.spec.observation.sample())
        except Exception as error:  # whatever the user's code does
            raise ConfigError(f"the rule {name} failed on an observation: {type(error).__name__}: {error}") from error
        space = self.spec.action
        try:
            fits = space.contains(np.asarray(action, space.dtype)[()])
        except (TypeError, ValueError):  # no array at all
            fits = False
        if not fits:
            raise ConfigError(f"the rule {name} answered {action!r}, which is no action of {space}")

    def carry(self, actor: PyTree, n: int) -> PyTree:
        """It remembers nothing."""
        return ()

    def act(self, actor: PyTree, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Ask for each environment in turn."""
        space = self.spec.action
        start = getattr(space, "start", 0)
        dtype = canonicalize_dtype(space.dtype)

        def answer(obs):
            n = jax.tree.leaves(obs)[0].shape[0]
            each = [self.function(jax.tree.map(lambda x, i=i: np.asarray(x[i]), obs)) for i in range(n)]
            return (np.asarray(each) - start).astype(dtype).reshape(n, *space.shape)

        n = jax.tree.leaves(now.obs)[0].shape[0]
        shape = jax.ShapeDtypeStruct((n, *space.shape), dtype)
        return jax.pure_callback(answer, shape, now.obs, vmap_method="sequential"), carry, {}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class Uniformly:
    """Random actions, of those that are legal."""

    spec: Spec

    def carry(self, actor: PyTree, n: int) -> PyTree:
        """It remembers nothing."""
        return ()

    def act(self, actor: PyTree, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Draw."""
        return random_action(self.spec.action, now, key), carry, {}


NOBODY = jnp.zeros(1)  # the actor of a policy that has no parameters, for one run
