"""Two sides of runs against each other: which is better, how surely, and how many more seeds would settle it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from thorndike.errors import require
from thorndike.ops.comparison import differences, improvement, improvement_interval, more_runs, p_value
from thorndike.ops.summary import (
    FEW,
    Scores,
    efficiency,
    ends,
    interval_of,
    iqm_of,
    mean_of,
    median_of,
    optimality_gap_of,
    profile_of,
    steps_to,
)
from thorndike.runs.results.curves import RETURN, of_run
from thorndike.runs.results.scores import WHAT, journals_of, logged, played, scaled, tag_of
from thorndike.runs.storage.journal import Journal
from thorndike.text import score

LEVEL = 0.05  # of the permutation test, below which a difference is settled
MOST = 1000  # seeds, beyond which it is said that a difference is too small to show
HEIGHTS = 101  # points of a performance profile


@dataclasses.dataclass(frozen=True)
class Summary:
    """What one side scores: estimates, each with the ends of its 95% interval, [value, low, high]."""

    name: str
    runs: dict[str, int]  # of each environment
    estimates: dict[str, list[float]]  # "iqm", "median", "mean"; with scores between 0 and 1 "optimality_gap"
    profile: list[float]  # the share of runs above each of the comparison's heights
    reached: int | None  # how many runs have reached the threshold; None without one
    steps_to_threshold: float | None  # median over its runs, infinite where half of them have not reached it
    curves: dict[str, dict[str, list[float]]]  # sample efficiency by environment: "steps", "iqm", "low", "high"


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Which of two sides is better; `print` says it in words, `to_json` has all numbers."""

    sides: tuple[Summary, Summary]
    difference: list[float]  # of the IQMs, first minus second, and the ends of its 95% interval
    improvement: list[float]  # the probability that a run of the first scores above one of the second; 95% interval
    p_value: float  # of Mann-Whitney's test, by permutations within environments
    more_seeds: float  # of each side and environment that would settle it with a chance of 80%; 0: it is settled
    heights: list[float]  # of the performance profiles
    threshold: float | None
    what: str  # what a score is
    notes: tuple[str, ...]  # what to bear in mind

    @property
    def settled(self) -> bool:
        """Whether the permutation test tells the sides apart at 5%."""
        return self.p_value < LEVEL

    @property
    def better(self) -> str | None:
        """The name of the better side; None while that is not settled."""
        return self.sides[0 if self.improvement[0] > 0.5 else 1].name if self.settled else None

    def to_json(self) -> dict[str, Any]:
        """The data that `thorndike compare --json` prints; what is not finite is None."""
        return _plain(dataclasses.asdict(self) | {"settled": self.settled, "better": self.better})

    def plot(self, out: str | Path | None = None) -> Any:
        """Sample-efficiency curves and performance profiles as a matplotlib figure, saved to `out` if given."""
        from thorndike.runs.results.compare_plot import draw

        return draw(self, out)

    def __str__(self) -> str:
        first, second = self.sides
        gap, low, high = self.difference
        chance, *between = self.improvement
        ahead, behind = (first, second) if (chance, gap) >= (0.5, 0.0) else (second, first)
        if self.settled:
            lines = [f"{ahead.name} is better than {behind.name} ({self.what})"]
        elif chance == 0.5:
            lines = [f"{first.name} and {second.name} score the same ({self.what})"]
        else:
            lines = [f"not settled: {ahead.name} is ahead of {behind.name}, which may be chance ({self.what})"]
        width = max(len(side.name) for side in self.sides)
        lines += [f"  {side.name:{width}}  {_said(side)}" for side in self.sides]
        lines += [
            f"  difference of IQMs {_signed(gap)} [{_signed(low)}, {_signed(high)}]",
            f"  a run of {first.name} beats one of {second.name} with probability {chance:.2f} "
            f"[{between[0]:.2f}, {between[1]:.2f}]; p = {self.p_value:.2g} (permutation test)",
        ]
        if self.threshold is not None:
            lines += [f"  {side.name:{width}}  {_when(side, self.threshold)}" for side in self.sides]
        lines += [f"  {text}" for text in (self._more(), *self.notes) if text]
        return "\n".join(lines)

    __repr__ = __str__

    def _more(self) -> str:
        """How many seeds would settle it."""
        if self.settled or self.improvement[0] == 0.5:
            return ""
        if math.isnan(self.more_seeds):
            return "one seed says nothing about others: train at least five of each"
        if self.more_seeds > MOST:
            return f"the difference is too small to show with fewer than {MOST:,} more seeds of each"
        least = max(int(self.more_seeds), FEW - min(n for side in self.sides for n in side.runs.values()), 1)
        return (
            f"about {least} more seeds of each would settle it, if the difference is as large as it looks (power 80%)"
        )


def compare(
    a: Any,
    b: Any,
    *,
    labels: Sequence[str] = ("A", "B"),
    episodes: int | None = None,
    scale: dict[str, tuple[float, float]] | None = None,
    threshold: float | Literal["auto"] | None = "auto",
    seed: int = 0,
) -> Comparison:
    """Which of two sides is better, how surely, and about how many more seeds would settle it.

    A run's score is the mean return of its last evaluation while it trained, where all have one, else that of its last
    100 training episodes. Estimates are those of Agarwal et al. (2021), with stratified bootstrap intervals; what is
    settled is said by a permutation test, whose level holds for few seeds too.

    Args:
        a: runs or their directories, or one; each of their seeds counts as one run.
        b: the other side.
        labels: what to call the two.
        episodes: play so many episodes with each agent now, and score by those.
        scale: {environment: (low, high)}, the returns that count as 0 and as 1; where there are several environments
            it is by default the lowest and highest score in each.
        threshold: a return; how many steps the training episodes needed to reach it. "auto": the reward threshold that
            is registered with Gymnasium for the environment, where there is one.
        seed: of the bootstrap, and of episodes.

    Raises:
        ConfigError: there is nothing to compare, environments differ, or a run is a sweep.
        CheckpointError: there is no run, or it is damaged.
    """
    require(len(labels) == 2 and labels[0] != labels[1], f"labels are two different names, got {list(labels)!r}")
    journals = [journals_of(runs, name) for runs, name in zip((a, b), labels)]
    if shared := {j.path for j in journals[0]} & {j.path for j in journals[1]}:
        require(False, f"{', '.join(map(str, sorted(shared)))} is on both sides")
    if episodes is None:
        tag = tag_of(journals)
        sides, what = [logged(side, tag) for side in journals], WHAT[tag]
    else:
        sides = [played(side, runs, episodes, seed) for side, runs in zip(journals, (a, b))]
        what = f"{episodes} episodes"
    scores, units = scaled(sides, scale)
    one, other = scores
    envs = sorted(sides[0].scores)
    height = _threshold(envs, threshold)
    low, high = (f(f(x.min() if f is min else x.max() for x in side) for side in scores) for f in (min, max))
    heights = np.linspace(low, high, HEIGHTS)
    found = [
        _summary(name, side, own, heights, height, bool(units), seed, dict(zip(envs, map(len, own))))
        for name, side, own in zip(labels, journals, scores)
    ]
    p = p_value(one, other, seed=seed)
    gaps = differences(one, other, seed=seed)
    gap = float(iqm_of(scores[0]) - iqm_of(scores[1]))
    return Comparison(
        (found[0], found[1]),
        [gap, *map(float, ends(gaps))],
        [float(improvement(one, other)), *improvement_interval(one, other, seed=seed)],
        p,
        0.0 if p < LEVEL else more_runs(one, other),
        heights.tolist(),
        height,
        f"mean return over {what}, on {', '.join(envs)}" + (f"; {units}" if units else ""),
        tuple(_notes(labels, sides)),
    )


def _summary(
    name: str,
    journals: list[Journal],
    scores: Scores,
    heights: np.ndarray,
    threshold: float | None,
    unit: bool,
    seed: int,
    runs: dict[str, int],
) -> Summary:
    estimates = {"iqm": iqm_of, "median": median_of, "mean": mean_of}
    if unit:
        estimates["optimality_gap"] = optimality_gap_of
    told = {n: [float(f(scores)), *map(float, interval_of(f, scores, seed=seed))] for n, f in estimates.items()}
    curves, times = _curves(journals, threshold, seed)
    reached = None if threshold is None else int(np.isfinite(times).sum())
    median = float(np.median(times)) if threshold is not None and len(times) else None
    return Summary(name, runs, told, profile_of(scores, heights).tolist(), reached, median, curves)


def _curves(journals: list[Journal], threshold: float | None, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Sample-efficiency curves of training returns by environment, and when each run reached the threshold."""
    by_env: dict[str, list[Any]] = {}
    times: list[np.ndarray] = []
    for journal in journals:
        for curve in of_run(journal, RETURN, "steps"):
            by_env.setdefault(curve.panel[0], []).append(curve)
            times += [] if threshold is None else [steps_to(curve.x, curve.y, threshold)]
    drawn = {}
    for env, found in by_env.items():
        begin, end = max(c.x[0] for c in found), min(c.x[-1] for c in found)
        x = next(c.x for c in found)
        x = x[(x >= begin) & (x <= end)]
        y = np.concatenate([np.stack([np.interp(x, c.x, column) for column in c.y.T], 1) for c in found], 1)
        whole = ~np.isnan(y).any(1)
        if whole.any():
            names = ("steps", "iqm", "low", "high")
            drawn[env] = {n: v.tolist() for n, v in zip(names, (x[whole], *efficiency(y[whole], 500, seed)))}
    return drawn, np.concatenate(times) if times else np.empty(0)


def _threshold(envs: list[str], given: float | Literal["auto"] | None) -> float | None:
    if given != "auto":
        require(given is None or len(envs) == 1, "a threshold is a return of one environment: compare one at a time")
        return given
    from thorndike.runs.results.plot import reward_threshold

    return reward_threshold(envs[0], RETURN) if len(envs) == 1 else None


def _notes(labels: Sequence[str], sides: Any) -> list[str]:
    notes = []
    for name, side in zip(labels, sides):
        if side.missing:
            notes.append(f"left out: {side.missing} of {name}'s runs without a score (diverged, or no episode ended)")
    if len(set.union(*(side.steps for side in sides))) > 1:
        texts = [f"{n} {_span(side.steps)}" for n, side in zip(labels, sides)]
        notes.append(f"they have learned from different numbers of steps: {', '.join(texts)}")
    return notes


def _span(steps: set[int]) -> str:
    return f"{min(steps):,}" if len(steps) == 1 else f"{min(steps):,} to {max(steps):,}"


def _said(side: Summary) -> str:
    """IQM, mean and median of a side, and how many runs that is of."""
    value, low, high = side.estimates["iqm"]
    least = min(side.runs.values())
    runs = f"{least} run{'s' * (least != 1)}" + (f" of each of {len(side.runs)} environments" * (len(side.runs) > 1))
    if len(set(side.runs.values())) > 1:
        runs = f"{least} runs or more of each of {len(side.runs)} environments"
    few = f", fewer than {FEW}: the true interval is wider" if least < FEW else ""
    others = ", ".join(f"{n.replace('_', ' ')} {score(e[0])}" for n, e in side.estimates.items() if n != "iqm")
    return f"IQM {score(value)} [{score(low)}, {score(high)}] ({runs}{few}); {others}"


def _when(side: Summary, threshold: float) -> str:
    total = sum(side.runs.values())
    if side.steps_to_threshold is None or not math.isfinite(side.steps_to_threshold):
        return f"{side.reached} of {total} runs reached {threshold:g}"
    after = f"in the median after {side.steps_to_threshold:,.0f} steps"
    return f"{side.reached} of {total} runs reached {threshold:g}, {after}"


def _signed(number: float) -> str:
    return ("+" if number > 0 else "") + score(number)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
