"""What trials have earned, of the training episodes of a run whose configurations they are."""

from __future__ import annotations

import numpy as np

from thorndike.runs.storage.journal import Journal
from thorndike.runs.tuning.halving import Scores

TAIL = 0.25  # of the steps so far: the last part of training
FEWEST = 10  # episodes of each agent that a score is the mean of, where there are so many


def scores(journal: Journal, until: int) -> Scores:
    """The scores of all configurations of a run that has trained to the step `until`.

    Of an agent it is the mean return of the episodes that ended in the last quarter of these steps, or of its last ten,
    where these are more; of a configuration the mean over its seeds. One that has diverged with any seed has diverged.
    """
    found = journal.episodes()
    known = found["step"] <= until
    agents = np.array([tail(found, known & (found["member"] == i), until) for i in range(journal.runs)])
    lost = np.zeros(journal.runs, bool)
    lost[[int(member) for member in journal.status.get("diverged", {})]] = True
    shape = (journal.configurations, journal.seeds)
    return Scores(agents.reshape(shape).mean(1), np.any(lost.reshape(shape), axis=1))


def tail(episodes: dict[str, np.ndarray], rows: np.ndarray, until: int) -> float:
    """The mean return of the last of the episodes at `rows`; NaN without any."""
    returns, steps = episodes["return"][rows], episodes["step"][rows]
    late = int((steps > (1 - TAIL) * until).sum())
    last = returns[-max(late, FEWEST) :]
    return float(last.mean()) if len(last) else float("nan")
