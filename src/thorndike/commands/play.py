"""`thorndike play`: a game against the agent."""

from __future__ import annotations

from pathlib import Path

from thorndike.commands.opening import open_run, parse


def play(run: Path, /, second: bool = False, seed: int = 0, classes: tuple[str, ...] = ()) -> None:
    """Play against the trained agent.

    Args:
        run: the run's directory
        second: let the agent begin
        seed: of what is random in the game
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    opened = open_run(run, classes=classes)
    from thorndike.runs.results.games import play as start

    start(opened, not second, seed)


def main(words: list[str]) -> None:
    """The command."""
    parse(play, words)
