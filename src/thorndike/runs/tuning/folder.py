"""The folder of a tune: what is asked for, a journal of trials, and the runs that they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from thorndike.errors import CheckpointError, require
from thorndike.files import open_regular, read_json, write_json
from thorndike.text import near

ASKED, TRIALS, PRESET = "tune.json", "trials.jsonl", "preset.json"


def begin(path: Path, asked: dict[str, Any]) -> None:
    """Write down what is asked for; raises `ConfigError` where something else was asked for in this folder."""
    asked = json.loads(json.dumps(asked))
    if not (path / ASKED).exists():
        write_json(path / ASKED, asked)
        return
    before = read_json(path / ASKED)
    if not isinstance(before, dict):
        raise CheckpointError(f"{path / ASKED} is damaged: delete {path}, and tune again")
    other = [name for name in asked if before.get(name) != asked[name]]
    require(
        not other,
        f"{near(path)} holds a tune with other {', '.join(other)}: ask for the same to go on with it, or choose "
        "another directory",
    )


class Journal:
    """`trials.jsonl`: a line for each trial and round."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; one that was cut short by a crash is passed over."""
        if not self.path.exists():
            return []
        with open_regular(self.path) as file:
            lines = file.read().decode(errors="replace").splitlines()
        return [line for line in map(_line, lines) if line is not None]

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Add lines, and wait until the disk has them. Raises `CheckpointError`."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        try:
            with self.path.open("ab") as file:
                file.write(("\n" * self._torn() + text).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CheckpointError(f"could not write {self.path}: {error.strerror or error}") from error

    def _torn(self) -> bool:
        """Whether the last line was cut short."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            return size > 0 and file.read(1) != b"\n"


def _line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(line, dict) and all(isinstance(line.get(name), int) for name in ("trial", "round", "steps"))
    return line if whole else None
