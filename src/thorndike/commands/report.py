"""`thorndike report`: a page of runs in one file."""

from __future__ import annotations

from pathlib import Path

from thorndike.commands.opening import open_run, parse, require_run
from thorndike.errors import ConfigError


def report(
    runs: tuple[Path, ...],
    /,
    out: Path | None = None,
    episodes: int | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Write a page about runs that needs nothing else: curves, settings, evaluation, signs of trouble, versions.

    Args:
        runs: the runs' directories
        out: the file; by default report.html in the first run's directory
        episodes: play so many with each agent and show that too; by default nothing is played
        classes: with --episodes, files of your own that the runs were trained with (./my_algorithm.py)
    """
    if not runs:
        raise ConfigError("name at least one run: thorndike report RUN...")
    for run in runs:
        require_run(run)
    opened = [] if episodes is None else [open_run(run, classes=classes) for run in runs]
    evaluations = {run.path: run.evaluate(episodes) for run in opened}
    from thorndike.runs.results.report import report as written

    print(written(list(runs), out or runs[0] / "report.html", evaluations))


def main(words: list[str]) -> None:
    """The command."""
    parse(report, words)
