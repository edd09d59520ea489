"""`thorndike gtp`: an agent at the board of any program that speaks GTP."""

from __future__ import annotations

import sys
from pathlib import Path

from thorndike.commands.opening import open_run, parse


def gtp(run: Path, /, seconds: float | None = None, seed: int = 0, classes: tuple[str, ...] = ()) -> None:
    """Speak the Go Text Protocol on standard input and output, for GoGui, Sabaki and the like.

    Args:
        run: the run's directory, of a board game whose moves are points (Go, Othello, tic-tac-toe)
        seconds: for each move; the search gets as many simulations as fit; by default those of training
        seed: of what is random
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    opened = open_run(run, classes=classes)
    from thorndike.runs.results.gtp import Engine, converse

    engine = Engine(opened, seconds, seed)
    print(f"{engine.id}: {engine.simulations} simulations for each move", file=sys.stderr, flush=True)
    converse(engine, sys.stdin, lambda answer: print(answer, end="", flush=True))


def main(words: list[str]) -> None:
    """The command."""
    parse(gtp, words)
