"""Health metrics with the ranges that they usually stay in: rules of thumb, those of docs/health.md. Without JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from thorndike.runs.training.signs import EPISODES, RETURN

LAST = 5  # rows, whose median is looked at: one row alone is noise
Ends = Callable[[np.ndarray], tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Usual:
    """What a metric says, and the least and the most of its usual range."""

    says: str
    ends: Ends  # of one agent's history of it [N], from what is known of it


class Reading(NamedTuple):
    """A metric beside its range; for each agent [R], NaN where it has no value."""

    tag: str
    says: str
    last: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def outside(self) -> np.ndarray:
        """Which agents' values are not in the range, bool [R]."""
        return (self.last < self.low) | (self.last > self.high)


def _within(low: float = -np.inf, high: float = np.inf) -> Ends:
    return lambda history: (low, high)


def _gradient(history: np.ndarray) -> tuple[float, float]:
    """Not zero, and not a hundred times its median."""
    return 1e-10, 100 * float(np.median(history))


def _entropy(history: np.ndarray) -> tuple[float, float]:
    """Of discrete actions, more than a fiftieth of its first value; of continuous ones it may be negative."""
    return (float(history[0]) / 50 if history.min() > 0 else -np.inf), np.inf


USUAL = {
    "rollout/observation_max": Usual("the largest absolute value that was seen", _within(high=20)),
    EPISODES: Usual("training episodes that have ended", _within(low=1)),
    "train/entropy": Usual("how undecided the policy is", _entropy),
    "train/approx_kl": Usual("how far an update moves the policy", _within(0.0005, 0.05)),
    "train/clip_fraction": Usual("the share of steps whose ratio is clipped", _within(0, 0.3)),
    "train/explained_variance": Usual("how much of the returns the critic foresees", _within(0, 1)),
    "train/gradient_norm": Usual("the gradient's length, before clipping", _gradient),
    "train/actor_gradient_norm": Usual("the length of the policy's gradient", _gradient),
    "train/staleness": Usual("updates between acting and learning", _within(high=10)),
    "train/ent_coef": Usual("the temperature α", _within(low=1e-4)),
    "train/effective_rank": Usual("how many directions the features use", _within(low=1.5)),
    "train/dead_units": Usual("the share of features that never change", _within(high=0.5)),
    "train/weight_share": Usual("1 if all weights of a batch are equal", _within(low=0.1)),
    "train/end_atoms": Usual("the share of targets on the first and last atom", _within(high=0.5)),
}
VALUES = {"train/value": "mean V(s)", "train/q_value": "mean Q(s, a)"}


def readings(table: dict[str, np.ndarray], settings: dict[str, Any]) -> list[Reading]:
    """Those of the metrics that a run has logged.

    Args:
        table: "steps" [N], and every other tag [N, R].
        settings: of the algorithm; rewards that it scales have values in units of their own, which no return bounds.
    """
    found = [_read(tag, usual.says, table[tag], usual.ends) for tag, usual in USUAL.items() if tag in table]
    earned = table.get(RETURN)
    known = np.empty(0) if earned is None else np.abs(earned[np.isfinite(earned)])
    if len(known) and not settings.get("normalize_reward"):
        most = 10 * max(float(known.max()), 1.0)
        found += [_read(tag, says, table[tag], _within(-most, most)) for tag, says in VALUES.items() if tag in table]
    return [reading for reading in found if np.isfinite(reading.last).any()]


def _read(tag: str, says: str, columns: np.ndarray, ends: Ends) -> Reading:
    each = []
    for column in np.asarray(columns, float).T:
        history = column[np.isfinite(column)]
        each.append((float(np.median(history[-LAST:])), *ends(history)) if len(history) else (np.nan,) * 3)
    last, low, high = np.array(each).reshape(-1, 3).T
    return Reading(tag, says, last, low, high)
