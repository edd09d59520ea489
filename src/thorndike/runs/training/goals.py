"""What the rows of a training say of its goals: which evaluation was the best, and whether it may stop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from thorndike.drivers.state import WINDOW

EVALUATION, TRAINING, EPISODES = "eval/mean_reward", "rollout/ep_rew_mean", "rollout/episodes"


class Goals:
    """Follows the rows of `metrics.jsonl`, those of an earlier part of the run first.

    A run that goes on from a checkpoint thus stands where it stood there. Means are over all runs that have not
    diverged.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], stop_at: float | None, patience: int | None, evaluates: bool):
        """`stop_at` is a mean return of evaluations, or of training episodes where the run is not evaluated."""
        self.stop_at, self.patience, self.evaluates = stop_at, patience, evaluates
        self.best: tuple[float, int] | None = None  # mean and step of the best evaluation; of equal ones the first
        self.since = 0  # evaluations after the best
        for row in rows:
            self.see(row)

    def see(self, row: dict[str, Any]) -> bool:
        """Whether the row has the best evaluation so far."""
        value = over_runs(row.get(EVALUATION))
        if value is None:
            return False
        if self.best is not None and value <= self.best[0]:
            self.since += 1
            return False
        self.best, self.since = (value, row["steps"]), 0
        return True

    def reached(self, row: dict[str, Any]) -> str:
        """Why training may stop after this row, which was just seen; "" where it may not."""
        tag = EVALUATION if self.evaluates else TRAINING
        value = over_runs(row.get(tag))
        if not self.evaluates and value is not None:  # the mean of a few episodes is luck
            counts = zip(_cells(row.get(TRAINING)), _cells(row.get(EPISODES)))
            value = (
                value if all(count is not None and count >= WINDOW for x, count in counts if x is not None) else None
            )
        if self.stop_at is not None and value is not None and value >= self.stop_at:
            return f"stop_at {self.stop_at:g}: {tag} is {value:g}"
        if self.patience is not None and self.best is not None and self.since >= self.patience:
            mean, step = self.best
            return (
                f"patience {self.patience}: {EVALUATION} has not risen above the {mean:g} of step {step:,} in "
                f"{self.since} evaluations"
            )
        return ""


def over_runs(cell: Any) -> float | None:
    """The mean of a row's numbers, of those that are known; None where none is."""
    known = [x for x in _cells(cell) if x is not None]
    return float(np.mean(known)) if known else None


def _cells(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else [cell]
