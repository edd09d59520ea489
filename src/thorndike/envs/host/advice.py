"""What may go wrong with a Gymnasium environment though it keeps its contract: warnings in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Tuple

COARSE = 1.0  # a distance between neighbouring numbers of float32 that is warned of: from 2^24 on

log = logging.getLogger("thorndike")


def layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """The environment's wrappers from the outermost on, and the environment in them."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def warn_of_statistics(env: gymnasium.Env, name: str) -> None:
    """Log a warning for each wrapper with a mean and variance that it keeps up to date: Gymnasium's
    `NormalizeObservation` and `NormalizeReward`, and those of one's own made like them."""
    for layer in layers(env):
        if not isinstance(layer, gymnasium.Wrapper) or not _running(layer):
            continue
        kind = type(layer).__name__
        own = f"{name} is wrapped in {kind}: each copy of the environment keeps running statistics of its own"
        if "reward" in kind.lower() or isinstance(layer, gymnasium.RewardWrapper):
            log.warning(
                "%s, so the returns of training and evaluation are not those of the task and cannot be compared. "
                "Leave the wrapper out; PPO has normalize_reward=True",
                own,
            )
        else:
            log.warning(
                "%s, and the trained agent has none of them: in evaluation and where it is used, it sees observations "
                "on another scale. Leave the wrapper out and give the algorithm normalize_observation=True",
                own,
            )


def warn_of_rounding(space: Space, obs: Any, name: str) -> None:
    """Log a warning where an observation has float64 numbers, such as seconds since 1970, so large that float32, in
    which observations are kept, has none within 1 of them."""
    largest = max((float(np.abs(part).max(initial=0.0)) for part in _doubles(space, obs)), default=0.0)
    apart = float(np.spacing(np.float32(largest)))
    if np.isfinite(largest) and apart >= COARSE:
        log.warning(
            "%s: its first observation has %g, and observations are kept in float32, where such numbers are %g apart: "
            "differences below that are lost. Subtract a constant from it in the environment",
            name,
            largest,
            apart,
        )


def _doubles(space: Space, obs: Any) -> Iterator[np.ndarray]:
    """The parts of an observation that are kept as float32 and have more digits."""
    if isinstance(space, Box) and space.dtype == np.float64:
        yield np.asarray(obs, np.float64)
    elif isinstance(space, (Dict, Tuple)):
        parts = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        for key, part in parts:
            yield from _doubles(part, obs[key])


def _running(layer: gymnasium.Wrapper) -> bool:
    """Whether a wrapper has running statistics that are not frozen."""

    def moments(value: Any) -> bool:  # a table of pandas has methods of these names
        return all(not callable(getattr(value, name, len)) for name in ("mean", "var", "count"))

    return any(map(moments, vars(layer).values())) and bool(getattr(layer, "update_running_mean", True))
