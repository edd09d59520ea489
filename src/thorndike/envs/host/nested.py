"""A Gymnasium environment whose actions are a Dict or Tuple, as one whose actions are vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, Tuple

from thorndike.envs.mixed import Mixed


class NestedActions(gymnasium.ActionWrapper):
    """Takes vectors [D] (`thorndike.envs.mixed`) and hands on the nested action that they stand for."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.action_space: Any = Mixed(env.action_space)

    def action(self, action: np.ndarray) -> Any:
        """The nested action; a Discrete part is a NumPy whole number."""
        return self.action_space.nested(np.asarray(action))


def vectored(env: gymnasium.Env) -> gymnasium.Env:
    """`env`, with vectors for actions where its own are nested."""
    return NestedActions(env) if isinstance(env.action_space, (Dict, Tuple)) else env


def vectoring(make: Callable[..., gymnasium.Env], **kwargs: Any) -> gymnasium.Env:
    """What `make` makes, `vectored`; a function that can be sent to a worker."""
    return vectored(make(**kwargs))
