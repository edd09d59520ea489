"""What a row of metrics says of a run's state: tags as in Stable-Baselines3, a value for each run [R]."""

from __future__ import annotations

from typing import Any

import numpy as np

from thorndike.drivers.earned import mean_known, metric_of
from thorndike.drivers.state import WINDOW, Episodes, RunState, Tally


def mean_returns(episodes: Episodes, lost: np.ndarray) -> np.ndarray:
    """Mean return over the last episodes of each run [R]; NaN before the first has ended, or where one diverged."""
    return _window(episodes, episodes.returns, lost)


def _window(episodes: Episodes, ring: Any, lost: np.ndarray) -> np.ndarray:
    """Mean over the last `WINDOW` of a ring [R, N]."""
    slots, there = episodes.slots(WINDOW)
    values = np.where(there, np.take_along_axis(np.asarray(ring, float), slots, 1), 0.0)
    return np.where(there.any(1) & ~lost, values.sum(1) / np.maximum(there.sum(1), 1), np.nan)


def _known(episodes: Episodes, ring: Any, lost: np.ndarray) -> np.ndarray:
    """That, over those of the last `WINDOW` in which the number is known."""
    slots, there = episodes.slots(WINDOW)
    values = np.where(there, np.take_along_axis(np.asarray(ring, float), slots, 1), np.nan)
    return np.where(lost, np.nan, mean_known(values, 1))


def of_episodes(state: RunState, lost: np.ndarray) -> dict[str, np.ndarray]:
    """What is known of training episodes."""
    episodes = state.episodes
    return {
        "rollout/ep_rew_mean": mean_returns(episodes, lost),
        "rollout/ep_len_mean": _window(episodes, episodes.lengths, lost),
        **{metric_of(name): _known(episodes, ring, lost) for name, ring in episodes.earned.items()},
        "rollout/episodes": np.asarray(episodes.count),
    }


def of_learning(tally: Tally, lost: np.ndarray) -> dict[str, np.ndarray]:
    """Means of what learning said since the last row."""
    count = np.maximum(np.asarray(tally.count), 1)
    return {name: np.where(lost, np.nan, tally.of(name, tally.sums) / count) for name in tally.names}
