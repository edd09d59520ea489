"""Curves of what a run logged: one for each configuration, with a value for each seed; moving averages and bands."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from thorndike.errors import ConfigError, UnknownNameError, require
from thorndike.names import did_you_mean
from thorndike.runs.storage.journal import Journal
from thorndike.settings import flat

RETURN, EVALUATION = "rollout/ep_rew_mean", "eval/mean_reward"
X = {"steps": "steps", "episodes": "rollout/episodes", "seconds": "time/seconds"}  # the tag of each horizontal axis
Axis = Literal["steps", "episodes", "seconds"]
FEW = 3  # seeds, below which an interval means nothing and their range is shown
SAMPLES = 1000  # of the bootstrap


@dataclasses.dataclass(frozen=True)
class Curve:
    """One tag of one configuration of a run."""

    journal: Journal
    configuration: int | None  # None where one value was logged for all configurations and seeds
    x: np.ndarray  # [N]
    y: np.ndarray  # [N, S], a column for each seed, NaN where it has no value yet

    @property
    def panel(self) -> tuple[str, bool]:
        """Which curves may share its axes: those of the same environment, and batches apart from steps."""
        return self.journal.environment["id"], bool(self.journal.info.get("dataset"))

    @property
    def seeds(self) -> int:
        """How many seeds it is of."""
        return self.y.shape[1]

    @property
    def settings(self) -> dict[str, Any]:
        """The algorithm's flat settings, with this configuration's values where they are swept."""
        i, swept = self.configuration, self.journal.swept
        return flat(self.journal.settings) | ({} if i is None else {name: values[i] for name, values in swept.items()})


def curves(journals: list[Journal], tag: str, x: Axis) -> list[list[Curve]]:
    """The curves of each run, a list that is empty where it has logged no value of `tag` yet.

    Raises:
        UnknownNameError: no run knows the tag; names those that there are.
        ConfigError: there is no such horizontal axis, or no run has a value.
    """
    require(x in X, f"x must be one of {', '.join(X)}, got {x!r}")
    require(bool(journals), "no run to draw: give at least one")
    found = [of_run(journal, tag, x) for journal in journals]
    if any(found):
        return found
    known = {name for journal in journals for name in journal.metrics()} - {"steps"}
    if known and tag not in known and tag != RETURN:
        text = f"nothing was logged as {tag!r}{did_you_mean(tag, known)}; there are {', '.join(sorted(known))}"
        raise UnknownNameError(text)
    where = ", ".join(journal.shell_path for journal in journals)
    what = "no episode has ended" if tag == RETURN else f"there is no value of {tag}"
    raise ConfigError(f"nothing to draw yet: {what} in {where}")


def of_run(journal: Journal, tag: str, x: Axis, table: dict[str, np.ndarray] | None = None) -> list[Curve]:
    """A run's curves of `tag`; none where it has logged no value of it. `table` is what it logged, where that has been
    read already."""
    table = journal.metrics() if table is None else table
    if tag not in table or X[x] not in table:
        return []
    values, along = table[tag], _along(table, X[x])
    along = np.broadcast_to(along, (len(along), values.shape[1]))
    whole = values.shape[1] != journal.runs  # not logged for each run
    parts: list[int | None] = [None] if whole else list(range(journal.configurations))
    found = []
    for i, y, at in zip(parts, np.split(values, len(parts), 1), np.split(along, len(parts), 1)):
        known = ~np.isnan(y).all(1)
        at, y = _aligned(at[known], y[known])
        if len(at):
            found.append(Curve(journal, i, at, y))
    return found


def _along(table: dict[str, np.ndarray], tag: str) -> np.ndarray:
    """A horizontal axis [N, R or 1]; rows that lack it get what is between their neighbours'."""
    steps = table["steps"]
    columns = steps[:, None] if tag == "steps" else table[tag]
    known = ~np.isnan(columns)
    return np.stack([np.interp(steps, steps[k], c[k]) if k.any() else c for c, k in zip(columns.T, known.T)], 1)


def _aligned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same x [N] for all seeds: where theirs [N, S] differ, the part that all have, interpolated."""
    if len(x) == 0 or (x == x[:, :1]).all():
        return x[:, 0], y
    known = [~np.isnan(column) for column in y.T]
    given = [(x[k, s], y[k, s]) for s, k in enumerate(known) if k.any()]
    low, high = max(at[0] for at, _ in given), min(at[-1] for at, _ in given)
    grid = np.linspace(low, high, len(x)) if low < high else np.empty(0)
    return grid, np.stack([np.interp(grid, *pair) for pair in given], 1)


def smoothed(y: np.ndarray, rows: int) -> np.ndarray:
    """The moving average of `y` [N, S] over `rows` rows (an odd number: one more if it is even) around each.

    Near both ends there are fewer, as many before as behind: with more on one side a rising curve would end too low.
    NaNs are left out, and stay.
    """
    known = ~np.isnan(y)
    zero = np.zeros((1, y.shape[1]))
    sums, counts = (np.concatenate([zero, np.cumsum(z, 0)]) for z in (np.where(known, y, 0.0), known))
    at = np.arange(len(y))
    half = np.minimum(rows // 2, np.minimum(at, at[::-1]))
    begin, end = at - half, at + half + 1
    return np.where(known, (sums[end] - sums[begin]) / np.maximum(counts[end] - counts[begin], 1), np.nan)


def mean(y: np.ndarray) -> np.ndarray:
    """Over the seeds that have a value, [N, S] to [N]."""
    known = ~np.isnan(y)
    return np.where(known, y, 0.0).sum(1) / np.maximum(known.sum(1), 1)


def band(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end [N] of a band around the mean of `y` [N, S], S > 1.

    From three seeds on it is the 95% percentile bootstrap interval of the mean: seeds are drawn with replacement, the
    same draws for all rows. Of two it is their range.
    """
    if y.shape[1] < FEW:
        return np.nanmin(y, 1), np.nanmax(y, 1)
    seeds = y.shape[1]
    drawn = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), SAMPLES)  # how often each, [B, S]
    known = ~np.isnan(y)
    counts = known.astype(float) @ drawn.T  # [N, B]
    means = np.where(counts > 0, np.where(known, y, 0.0) @ drawn.T / np.maximum(counts, 1), np.nan)
    percentile = np.nanpercentile if np.isnan(means).any() else np.percentile
    low, high = percentile(means, [2.5, 97.5], axis=1)
    return low, high
