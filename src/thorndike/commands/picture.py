"""`thorndike picture`: what was learned, on a grid or over two numbers of the observation."""

from __future__ import annotations

from pathlib import Path

from thorndike.commands.opening import open_run, parse


def picture(
    run: Path,
    /,
    out: Path | None = None,
    over: tuple[int, int] | None = None,
    seed: int | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Draw what was learned: values and greedy actions, of a table on a grid, or over two numbers of the observation.

    Args:
        run: the run's directory
        over: which two numbers of a vector of observations, from 0
        out: the picture, .png, .svg or .pdf; by default values.png in the run's directory
        seed: whose values, where several agents were trained
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    opened, out = open_run(run, classes=classes), out or run / "values.png"
    opened.picture(out, seed, over)
    print(out)


def main(words: list[str]) -> None:
    """The command."""
    parse(picture, words)
