"""Successive halving: many settings for a few steps, and of these the better part for more."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from thorndike.errors import DivergedError, require

LEAST = 4  # rollouts of learning before the first cut: all trials play the first one alike


class Round(NamedTuple):
    """So many trials are trained until this step."""

    until: int
    size: int


@dataclasses.dataclass(frozen=True)
class Scores:
    """What trials have earned, in their order."""

    values: np.ndarray  # [n], NaN where no episode has ended yet
    lost: np.ndarray  # [n], whether it has diverged


@dataclasses.dataclass(frozen=True)
class Standing:
    """How far a trial came, and what it earned there."""

    trial: int
    steps: int
    score: float  # NaN if it has none
    lost: bool = False


def rounds(trials: int, steps: int, factor: int, first: float, chunk: int = 1, warm: int = 0) -> list[Round]:
    """The rounds of successive halving (Jamieson & Talwalkar 2016), with a fixed smallest budget (Li et al. 2018).

    The first round ends after the fraction `first` of `steps`; each cut leaves 1 of `factor` trials, at least one, and
    the next round ends after `factor` times as many steps. There is no cut in the last half, which would save little.
    All are whole rollouts of `chunk` steps. The first round has at least four, and twice the `warm` ones of random
    actions: its last quarter shows what was learned.
    """
    whole = -(-steps // chunk)
    until, size, found = max(LEAST, 2 * warm, round(whole * first)), trials, []
    while 2 * until <= whole and size > 1:
        found.append(Round(until * chunk, size))
        until, size = until * factor, max(1, size // factor)
    return [*found, Round(whole * chunk, size)]


def going_on(alive: Sequence[int], scores: Scores, size: int) -> list[int]:
    """Which of the trials go on: the best `size` of those that have not diverged.

    Where one of them has no score yet, all go on, and so do those equal to the last one that goes on, as all are before
    the first success: nothing speaks against them.
    """
    well = np.flatnonzero(~scores.lost)
    if np.isnan(scores.values[well]).any():
        return [alive[i] for i in well.tolist()]
    worst = np.sort(scores.values[well])[-size:].min(initial=np.inf)
    return [alive[i] for i in well[scores.values[well] >= worst].tolist()]


def halve(plan: Sequence[Round], advance: Callable[[int, list[int]], Scores]) -> list[Standing]:
    """Successive halving over trials 0 to n - 1; how each of them did, the best first.

    Args:
        plan: of `rounds`.
        advance: `advance(i, trials)` lets these go on from where they stopped to the end of round i; their scores.

    Raises:
        DivergedError: all trials have diverged.
    """
    alive, found = list(range(plan[0].size)), {}
    for i, one in enumerate(plan):
        scores = advance(i, alive)
        for trial, score, lost in zip(alive, scores.values.tolist(), scores.lost.tolist()):
            found[trial] = Standing(trial, one.until, score, lost)
        if scores.lost.all():
            break  # what was left behind is all that there is
        if i + 1 < len(plan):
            alive = going_on(alive, scores, plan[i + 1].size)
    if all(one.lost for one in found.values()):
        raise DivergedError(f"all {len(found)} trials have diverged by step {one.until:,}: give other ranges")
    return ranked(list(found.values()))


def ranked(standings: list[Standing]) -> list[Standing]:
    """The best first: those that came further, among them by their last score; what has none, or diverged, is last."""

    def key(one: Standing) -> tuple[bool, int, bool, float, int]:
        unknown = math.isnan(one.score)
        return one.lost, -one.steps, unknown, 0.0 if unknown else -one.score, one.trial

    return sorted(standings, key=key)


def check_plan(trials: object, factor: object, first: object) -> None:
    """Raise `ConfigError` where these make no rounds."""
    whole = lambda x: isinstance(x, (int, np.integer)) and not isinstance(x, bool)  # noqa: E731
    require(whole(trials) and trials >= 1, f"trials must be a whole number, at least 1, got {trials!r}")  # type: ignore
    require(whole(factor) and factor >= 2, f"factor must be a whole number, at least 2, got {factor!r}")  # type: ignore
    share = isinstance(first, (int, float)) and not isinstance(first, bool) and 0 < first <= 1
    require(share, f"first is the fraction of the steps before the first cut, in (0, 1], got {first!r}")
