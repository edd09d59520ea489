"""The score of each run of a comparison: one number for each seed, by environment. From what was logged, or played."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from thorndike.errors import ConfigError, require
from thorndike.runs.results.curves import EVALUATION, RETURN
from thorndike.runs.storage.journal import Journal

WHAT = {EVALUATION: "the last evaluation while training", RETURN: "the last 100 training episodes"}


@dataclasses.dataclass
class Side:
    """What one side of a comparison has, by environment."""

    scores: dict[str, np.ndarray]  # of each run [R], without those that have none
    steps: set[int]  # that its runs have learned from
    missing: int  # runs without a score: they diverged, or no episode has ended


def journals_of(runs: Any, side: str) -> list[Journal]:
    """Those of runs, or of their directories; raises `ConfigError` where there are none, or one has a sweep."""
    one = not isinstance(runs, (list, tuple))
    found = [
        run if isinstance(run, Journal) else getattr(run, "journal", None) or Journal(run)
        for run in ([runs] if one else runs)
    ]
    require(bool(found), f"{side} has no runs: name at least one")
    for journal in found:
        require(
            journal.configurations == 1,
            f"{journal.shell_path} is a sweep of {', '.join(journal.swept)}: compare runs with one value each, or see "
            "run.evaluate().by_configuration()",
        )
    twice = {path for path in (j.path for j in found) if sum(j.path == path for j in found) > 1}
    require(not twice, f"{side} has {', '.join(map(str, sorted(twice)))} twice: a run is counted once")
    return found


def tag_of(sides: Sequence[list[Journal]]) -> str:
    """What the runs are judged by: evaluations, where all have some, else training episodes."""
    return EVALUATION if all(EVALUATION in j.metrics() for side in sides for j in side) else RETURN


def logged(journals: list[Journal], tag: str) -> Side:
    """The last value of a tag that each run has logged."""
    return _side(journals, [_last(journal.metrics().get(tag), journal.runs) for journal in journals])


def played(journals: list[Journal], runs: Any, episodes: int, seed: int) -> Side:
    """The mean return of each run over episodes that are played now, the same ones for all."""
    from thorndike.runs.results.run import Run

    given = list(runs) if isinstance(runs, (list, tuple)) else [runs]
    opened = [run if isinstance(run, Run) else Run(journal.path) for run, journal in zip(given, journals)]
    return _side(journals, [np.array(run.evaluate(episodes, seed).per_run) for run in opened])


def _side(journals: list[Journal], values: list[np.ndarray]) -> Side:
    by_env: dict[str, list[np.ndarray]] = {}
    for journal, found in zip(journals, values):
        by_env.setdefault(journal.environment["id"], []).append(found)
    whole = {env: np.concatenate(found) for env, found in by_env.items()}
    known = {env: x[~np.isnan(x)] for env, x in whole.items()}
    for env, x in known.items():
        if not len(x):
            where = ", ".join(j.shell_path for j in journals if j.environment["id"] == env)
            raise ConfigError(f"nothing to compare yet: no run has a score on {env} in {where}")
    missing = sum(map(len, whole.values())) - sum(map(len, known.values()))
    return Side(known, {int(journal.status["steps"]) for journal in journals}, missing)


def _last(column: np.ndarray | None, runs: int) -> np.ndarray:
    """The last number in each column [N, R]; NaN where there is none."""
    if column is None:
        return np.full(runs, np.nan)
    known = ~np.isnan(column)
    last = len(column) - 1 - known[::-1].argmax(0)
    return np.where(known.any(0), np.take_along_axis(column, last[None], 0)[0], np.nan)


def scaled(sides: Sequence[Side], scale: dict[str, tuple[float, float]] | None) -> tuple[list[list[np.ndarray]], str]:
    """Scores as lists over environments, on one scale, and what that is.

    Returns of one environment stay as they are. Those of several are put between 0 and 1: `scale` says which returns of
    each environment these are; else they are the lowest and the highest that either side has there.
    """
    first, second = (set(side.scores) for side in sides)
    if odd := first ^ second:
        raise ConfigError(f"only one side has runs on {', '.join(sorted(odd))}: both need the same environments")
    envs = sorted(first)
    if scale is None and len(envs) == 1:
        return [[side.scores[envs[0]]] for side in sides], ""
    ends: dict[str, tuple[float, float]] = {}
    for env in envs:
        if scale is None:
            together = np.concatenate([side.scores[env] for side in sides])
            ends[env] = float(together.min()), float(together.max())
        else:
            require(env in scale, f"scale lacks {env}: give the returns that count as 0 and as 1 there")
            ends[env] = scale[env]
            require(ends[env][0] < ends[env][1], f"scale of {env} must rise, got {ends[env]}")
    what = "0 and 1 are the lowest and highest score in each environment" if scale is None else ""
    what = what or "; ".join(f"0 is {low:g} and 1 is {high:g} on {env}" for env, (low, high) in ends.items())
    width = {env: (high - low) or 1.0 for env, (low, high) in ends.items()}
    return [[(side.scores[env] - ends[env][0]) / width[env] for env in envs] for side in sides], what
