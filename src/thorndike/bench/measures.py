"""What is measured of a finished run: one number for each of its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

LAST = 100  # training episodes


@dataclasses.dataclass(frozen=True)
class Measure:
    """How to measure, in how many episodes for each agent, and which way is better."""

    what: str  # in words
    of: Callable[[Any, int], np.ndarray]  # (run, episodes) -> [R]; NaN where a run has diverged
    lower: bool = False  # less is better


def returns(run: Any, episodes: int) -> np.ndarray:
    """Mean return of each agent, at its best."""
    return run.evaluate(episodes).returns.mean(1)


def success(run: Any, episodes: int) -> np.ndarray:
    """Share of the episodes of each agent that succeed."""
    return np.asarray(run.evaluate(episodes).earned["success"], float).mean(1)


def lengths(run: Any, episodes: int) -> np.ndarray:
    """Mean length of the episodes of each agent."""
    found = run.evaluate(episodes)
    return np.where(np.isnan(found.returns).any(1), np.nan, found.lengths.mean(1))


def training(run: Any, episodes: int) -> np.ndarray:
    """Mean return of the last training episodes of each agent."""
    found = run.episodes()
    own = [found["return"][found["member"] == i][-LAST:] for i in range(run.runs)]
    return np.array([x.mean() if len(x) else np.nan for x in own])


def adapted(run: Any, episodes: int) -> np.ndarray:
    """Mean return after an adaptation, as it was logged last."""
    return np.asarray(run.metrics()["train/return_after"], float)[-1]


MEASURES = {
    "return": Measure("greedy return", returns),
    "success": Measure("share of greedy episodes that succeed", success),
    "length": Measure("steps of greedy episodes, fewer are better", lengths, lower=True),
    "training": Measure(f"return of the last {LAST} training episodes", training),
    "adapted": Measure("return after one gradient step", adapted),
}
