"""Which algorithms can learn in an environment, which to try first, and why not the others."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from thorndike.algorithms import algorithm_class, entries
from thorndike.errors import ConfigError
from thorndike.presets import has_preset, presets_of
from thorndike.runs.storage.environments import describe
from thorndike.types import Spec

NEAR = 3  # environments with presets that are named where one has none
COMMON = ("q-learning", "dqn", "ppo", "sac", "alphazero")  # what to name first, of each family one
MOST = 6  # algorithms that are named where one cannot serve


@dataclasses.dataclass(frozen=True)
class Choice:
    """An algorithm for an environment."""

    name: str
    summary: str
    problem: str | None  # why it cannot serve; None where it can
    preset: bool  # settings for this pair are known
    offline: bool  # it learns from a dataset


def choices(env: Any, id: str) -> list[Choice]:
    """Every algorithm, those with a preset first, then the others that can serve, then those that cannot."""
    spec, found = describe(env, 1, id), []
    for name, entry in entries().items():
        cls = algorithm_class(name)
        problem = serves(cls(), spec)
        found.append(Choice(name, entry.summary, problem, has_preset(cls, id), getattr(cls, "offline", False)))
    return sorted(found, key=lambda choice: (choice.problem is not None, not choice.preset, choice.offline))


def able(env: Any, id: str = "") -> str:
    """Which algorithms can serve `env`, as a sentence: those with a preset for its id first, then the best known."""
    found = [one for one in choices(env, id) if not (one.problem or one.offline)]
    if not found:
        return ""
    known = [one.name for one in found if one.preset or one.name in COMMON]
    names = (known + [one.name for one in found if one.name not in known])[:MOST]
    more = f" and {len(found) - MOST} more, which thorndike list --env names" if len(found) > MOST else ""
    return f" Algorithms that can serve it: {', '.join(names)}{more}."


def serves(algorithm: Any, spec: Spec) -> str | None:
    """None, or why the algorithm cannot learn in such an environment."""
    if spec.players > 1 and getattr(algorithm, "players", 1) not in (None, spec.players):
        return f"{type(algorithm).__name__} learns for one player, and this game has {spec.players}"
    problem = algorithm.supports(spec)
    replay: Any = getattr(algorithm, "replay", None)
    problem = replay.supports(spec) if problem is None and hasattr(replay, "supports") else problem
    if problem is not None and not isinstance(problem, str):
        raise ConfigError(f"{type(algorithm).__name__}.supports must give None or what is missing, not {problem!r}")
    return problem


def no_preset(name: str, cls: type, env: str) -> str:
    """What is said where an algorithm has no preset for an environment."""
    known = [] if ":" in env else list(presets_of(cls))
    near = difflib.get_close_matches(env, known, NEAR, cutoff=0.0)
    more = f" and {len(known) - NEAR} more" if len(known) > NEAR else ""
    others = f"; it has presets for {', '.join(near)}{more}" if near else ""
    return f"no preset for {name} on {env}: its defaults are used{others}"
