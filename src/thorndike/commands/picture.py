"""`thorndike picture`: what a tabular algorithm learned on a grid."""

from __future__ import annotations

from pathlib import Path

from thorndike.commands.opening import open_run, parse


def picture(run: Path, /, out: Path | None = None, seed: int | None = None, classes: tuple[str, ...] = ()) -> None:
    """Draw what a tabular algorithm learned on a grid: the value of each cell, and its greedy actions.

    Args:
        run: the run's directory
        out: the picture, .png, .svg or .pdf; by default values.png in the run's directory
        seed: whose values, where several agents were trained
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    opened, out = open_run(run, classes=classes), out or run / "values.png"
    opened.picture(out, seed)
    print(out)


def main(words: list[str]) -> None:
    """The command."""
    parse(picture, words)
