"""`thorndike report`: a page of runs in one file."""

from __future__ import annotations

from pathlib import Path

from thorndike.commands.opening import open_run, parse, require_run
from thorndike.errors import ConfigError

EPISODES = 20  # of the evaluation of one run


def report(
    runs: tuple[Path, ...],
    /,
    out: Path | None = None,
    episodes: int | None = None,
    play: bool = True,
    env: str | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Write a page about runs that needs nothing else: curves, settings, evaluation, signs of trouble, versions.

    A page of one run shows the agent at work too: a film beside the untrained one, and what it goes by.

    Args:
        runs: the runs' directories
        out: the file; by default report.html in the run's directory, or of several runs.html in that of the first
        episodes: play so many with each agent and show that too; by default 20 of one run, and none of several
        play: --no-play: nothing is played, and only what runs logged is read
        env: the environment, where it is one of your own (./my_env.py:MyEnv)
        classes: files of your own that the runs were trained with (./my_algorithm.py)
    """
    if not runs:
        raise ConfigError("name at least one run: thorndike report RUN...")
    for run in runs:
        require_run(run)
    if len(runs) == 1 and play:
        print(open_run(runs[0], env, classes).report(out, EPISODES if episodes is None else episodes))
        return
    from thorndike.runs.results.report import report as written

    opened = [] if episodes is None else [open_run(run, env, classes) for run in runs]
    evaluations = {run.path: run.evaluate(episodes) for run in opened}
    name = "report.html" if len(runs) == 1 else "runs.html"  # the first keeps its own page
    print(written(list(runs), out or runs[0] / name, evaluations))


def main(words: list[str]) -> None:
    """The command."""
    parse(report, words)
