"""Rows of metrics as they are appended: of a file that grows only what came since is read."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import Any

from thorndike.errors import CheckpointError
from thorndike.files import open_regular
from thorndike.runs.storage.metrics import parsed

PIECE = 2**22  # bytes that are read at a time; a line without an end in so many is passed over
POINTS = 1000  # rows that are handed on at once, or up to twice as many; of more, so many evenly spread


class Follower:
    """Reads on in `metrics.jsonl` where it left off. A last line that is not whole waits for its end."""

    def __init__(self, path: Path):
        self.path = path
        self.file, self.at, self.skipping = -1, 0, False  # inode, position, and whether within too long a line

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the file was begun anew since, as resuming does, and the rows that came since."""
        try:
            found = self.path.lstat()
        except OSError:
            return False, []
        if not stat.S_ISREG(found.st_mode):
            return False, []
        anew = self.file not in (-1, found.st_ino) or found.st_size < self.at
        if anew or self.file == -1:
            self.file, self.at, self.skipping = found.st_ino, 0, False
        kept = Sparse(POINTS)
        try:
            with open_regular(self.path) as file:
                while True:
                    file.seek(self.at)
                    piece = file.read(PIECE)
                    if b"\n" not in piece and len(piece) < PIECE:  # the end, or a line that is being written
                        return anew, kept.rows()
                    for row in self._take(piece):
                        kept.add(row)
        except (OSError, CheckpointError):
            return anew, kept.rows()

    def _take(self, piece: bytes) -> list[dict[str, Any]]:
        """The rows of the whole lines in a piece; the next one begins behind these."""
        whole, newline, _ = piece.rpartition(b"\n")
        if not newline:
            if len(piece) == PIECE:
                self.at, self.skipping = self.at + PIECE, True
            return []
        self.at += len(whole) + 1
        lines = whole.split(b"\n")
        lines, self.skipping = lines[1:] if self.skipping else lines, False
        rows = (parsed(line.decode(errors="replace")) for line in lines)
        return [told for row in rows if row is not None and (told := row_of(row)) is not None]


def row_of(row: dict[str, Any]) -> dict[str, Any] | None:
    """{"steps": n, "tags": {tag: [mean, least, most] over the agents}}, of finite numbers; None without steps."""
    told: dict[str, Any] = {}
    for name, cell in row.items():
        if name == "steps":
            continue
        values = [x for x in map(_finite, cell if isinstance(cell, list) else [cell]) if x is not None]
        if values:
            told[name] = [math.fsum(x / len(values) for x in values), min(values), max(values)]
    steps = _finite(row["steps"])
    return None if steps is None else {"steps": int(steps), "tags": told}


def _finite(number: Any) -> float | None:
    try:
        value = float(number)
    except (TypeError, OverflowError):
        return None
    return value if math.isfinite(value) else None


class Sparse:
    """Of any number of rows about `most` to twice as many, evenly spread, with the last one."""

    def __init__(self, most: int):
        self.most, self.every, self.count = most, 1, 0
        self.kept: list[Any] = []
        self.last: Any = None

    def add(self, row: Any) -> None:
        """The next row."""
        if self.count % self.every == 0:
            self.kept.append(row)
            if len(self.kept) > 2 * self.most:
                self.kept, self.every = self.kept[::2], 2 * self.every
        self.last, self.count = row, self.count + 1

    def rows(self) -> list[Any]:
        """Those that were kept."""
        return [*self.kept, *([self.last] if self.kept and self.last is not self.kept[-1] else [])]
