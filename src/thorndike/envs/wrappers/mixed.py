"""A JAX environment whose actions are a Dict or Tuple, as one whose actions are vectors."""

from __future__ import annotations

from typing import Any

from thorndike.configuration import config
from thorndike.envs.mixed import Mixed
from thorndike.envs.wrappers.base import Wrapper
from thorndike.types import Array, PyTree, Step


@config
class MixedActions(Wrapper):
    """The environment with vectors for its nested actions (`thorndike.envs.mixed`); `td.make` adds it where needed."""

    @property
    def action_space(self) -> Any:
        """Vectors of all parts."""
        return Mixed(self.env.action_space)

    def step(self, state: PyTree, action: Array, key: Array) -> Step:
        """One step on, with the action that the vector stands for."""
        return self.env.step(state, self.action_space.nested(action), key)
