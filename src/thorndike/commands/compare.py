"""`thorndike compare`: two sides of runs against each other."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Any

from thorndike.commands.opening import open_run, parse, require_run
from thorndike.errors import ConfigError


def compare(
    runs: tuple[Path, ...],
    /,
    vs: tuple[Path, ...] = (),
    labels: tuple[str, ...] = (),
    episodes: int | None = None,
    threshold: float | None = None,
    out: Path | None = None,
    json: bool = False,
    classes: tuple[str, ...] = (),
) -> None:
    """Say which side is better, how surely, and about how many more seeds would settle it.

    Each seed is one run. Nothing but what the runs logged is needed, unless episodes are played.

    Args:
        runs: the runs of one side
        vs: the runs of the other side
        labels: what to call the two; by default their algorithms, where these differ
        episodes: play so many with each agent and score by those; by default by evaluations while training, or training
        threshold: a return: how many steps each side needed to reach it; by default Gymnasium's for the environment
        out: a picture of learning curves and performance profiles, .png, .svg or .pdf
        json: print JSON
        classes: with --episodes, files of your own that the runs were trained with (./my_algorithm.py)
    """
    if not runs or not vs:
        raise ConfigError("name the runs of both sides: thorndike compare A... --vs B...")
    for path in (*runs, *vs):
        require_run(path)
    if labels and len(labels) != 2:
        raise ConfigError(f"give two labels, one for each side, not {len(labels)}")
    from thorndike.runs.results.compare import compare as compared

    sides: list[list[Any]] = [list(runs), list(vs)]
    names = labels or _names(sides)
    if episodes is not None:
        sides = [[open_run(path, classes=classes) for path in side] for side in sides]
    found = compared(*sides, labels=names, episodes=episodes, threshold="auto" if threshold is None else threshold)
    if out is not None:
        found.plot(out)
    print(dumps(found.to_json()) if json else found)


def _names(sides: list[list[Path]]) -> tuple[str, ...]:
    """The algorithms of both sides, where each has one and they differ; else their only runs, else A and B."""
    from thorndike.runs.storage.journal import Journal

    algorithms = [{Journal(path).name for path in side} for side in sides]
    if all(len(names) == 1 for names in algorithms) and algorithms[0] != algorithms[1]:
        return tuple(names.pop() for names in algorithms)
    folders = [side[0].resolve().name for side in sides]
    return tuple(folders) if all(len(side) == 1 for side in sides) and folders[0] != folders[1] else ("A", "B")


def main(words: list[str]) -> None:
    """The command."""
    parse(compare, words)
