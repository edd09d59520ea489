"""What the rows of a training say of its goals: which evaluation was the best."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

EVALUATION = "eval/mean_reward"


class Goals:
    """Follows the rows of `metrics.jsonl`, those of an earlier part of the run first.

    A run that goes on from a checkpoint thus stands where it stood there.
    """

    def __init__(self, rows: Iterable[dict[str, Any]]):
        self.best: tuple[float, int] | None = None  # mean and step of the best evaluation; of equal ones the first
        for row in rows:
            self.see(row)

    def see(self, row: dict[str, Any]) -> bool:
        """Whether the row has the best evaluation so far, by the mean over all runs that have not diverged."""
        value = over_runs(row.get(EVALUATION))
        if value is None or (self.best is not None and value <= self.best[0]):
            return False
        self.best = value, row["steps"]
        return True


def over_runs(cell: Any) -> float | None:
    """The mean of a row's numbers, of those that are known; None where none is."""
    known = [x for x in (cell if isinstance(cell, list) else [cell]) if x is not None]
    return float(np.mean(known)) if known else None
