"""Wrappers of Gymnasium's that normalise by running statistics, which no agent has: what to warn of."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import gymnasium

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


def _running(layer: gymnasium.Wrapper) -> bool:
    """Whether a wrapper has running statistics that are not frozen."""

    def moments(value: Any) -> bool:  # a table of pandas has methods of these names
        return all(not callable(getattr(value, name, len)) for name in ("mean", "var", "count"))

    return any(map(moments, vars(layer).values())) and bool(getattr(layer, "update_running_mean", True))
