"""`thorndike runs`: the runs in a folder."""

from __future__ import annotations

from json import dumps
from pathlib import Path

from thorndike.commands.opening import parse


def runs(folder: Path = Path("runs"), /, json: bool = False) -> None:
    """List the runs in a folder, the newest last.

    Settings are what differs from the defaults or from the preset; return is the mean of the last training episodes,
    best that of the best evaluation.

    Args:
        folder: where to look, also in the folders in it
        json: print JSON
    """
    from shutil import get_terminal_size

    from thorndike.runs.results.listing import list_runs, signs_of, table

    found = list_runs(folder)
    if json:
        print(dumps(found))
    else:
        width = get_terminal_size((160, 24)).columns
        print(table(found, width) if found else f"there is no run in {folder}: thorndike train ALGORITHM ENV")
        if signs := signs_of(found):
            print(f"\n{signs}")


def main(words: list[str]) -> None:
    """The command."""
    parse(runs, words)
