"""`thorndike doctor`: signs of trouble in the metrics of runs."""

from __future__ import annotations

from json import dumps
from pathlib import Path

from thorndike.commands.opening import parse, require_run
from thorndike.errors import ConfigError


def doctor(runs: tuple[Path, ...], /, json: bool = False) -> None:
    """Look for signs of trouble in the metrics of runs; say what usually causes what was seen, and what to try.

    Args:
        runs: the runs' directories
        json: print JSON
    """
    if not runs:
        raise ConfigError("name at least one run: thorndike doctor RUN...")
    for run in runs:
        require_run(run)
    from thorndike.runs.results.doctor import diagnose
    from thorndike.runs.storage.journal import Journal

    found = [diagnose(Journal(run)) for run in runs]
    print(dumps([one.to_json() for one in found]) if json else "\n\n".join(map(str, found)))


def main(words: list[str]) -> None:
    """The command."""
    parse(doctor, words)
