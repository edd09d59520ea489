"""What is said of a row that was run: ours with its interval, and whether it reaches what it is held against."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from thorndike.bench.measures import MEASURES
from thorndike.bench.row import Row
from thorndike.ops.summary import FEW, interval_of, iqm_of

MET, SHORT, UNKNOWN = "met", "short", "not comparable"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Ours and what it comes to."""

    ours: float  # IQM over the runs that have not diverged; NaN where all have
    low: float  # 95% interval of that, by a bootstrap over runs
    high: float
    runs: int  # how many there were
    diverged: int  # and how many of these diverged
    said: str  # MET, SHORT or UNKNOWN

    @property
    def few(self) -> bool:
        """Whether there are so few runs that the interval is too narrow."""
        return self.runs < FEW


def judge(row: Row, scores: Any) -> Verdict:
    """Judge a row by the scores of its runs [R], one number each: runs vary, not their episodes.

    The interquartile mean decides. A run that diverged makes the row fall short, whatever the others earn.
    """
    scores = np.asarray([np.nan if x is None else x for x in np.ravel(scores)], float)
    well = scores[~np.isnan(scores)]
    lost = len(scores) - len(well)
    ours, low, high = np.nan, np.nan, np.nan
    if len(well):
        ours = float(iqm_of([well]))
        low, high = map(float, interval_of(iqm_of, [well]))
    lower = MEASURES[row.measure].lower
    bar = row.bar(lower)
    if bar is None:
        said = UNKNOWN
    else:
        said = MET if not lost and reaches(ours, bar, lower) else SHORT
    return Verdict(ours, low, high, len(scores), lost, said)


def reaches(ours: float, bar: float, lower: bool) -> bool:
    """Whether ours is as good as what is asked; `lower`: less is better."""
    return ours <= bar if lower else ours >= bar
