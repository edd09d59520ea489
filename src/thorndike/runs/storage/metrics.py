"""`metrics.jsonl`: one line per log interval, appended as training goes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import CheckpointError
from thorndike.files import open_regular, replace

TAIL = 2**20  # bytes at the end of a file that `newest` looks at: hundreds of rows of a run, a few of a thousand runs


class MetricsFile:
    """Appends rows {"steps": n, tag: number, or a list with a number per run}."""

    def __init__(self, path: Path, keep_until: int | None = None):
        """Open for appending; with `keep_until`, drop rows beyond that step first (they will be written again)."""
        if keep_until is not None and path.exists():
            rows = [row for row in read(path) if row["steps"] <= keep_until]
            replace(path, (f"{json.dumps(row)}\n".encode() for row in rows))
        self.file = path.open("a", buffering=1)

    def write(self, row: dict[str, Any]) -> None:
        """Append one row."""
        try:
            self.file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise CheckpointError(f"could not write {self.file.name}: {error.strerror or error}") from error

    def close(self) -> None:
        """Flush and close."""
        with contextlib.suppress(OSError):  # a full disk was reported by write
            self.file.close()


def row_of(steps: int, values: dict[str, np.ndarray]) -> dict[str, Any]:
    """A row: each value is [R], or [1] where there is one for all runs."""
    return {"steps": steps, **{name: cell_of(value) for name, value in values.items()}}


def cell_of(value: Any) -> Any:
    """A number, or a list of several, as a row has them: with seven digits, and None for what is not finite."""
    numbers = [float(f"{v:.7g}") if np.isfinite(v) else None for v in np.ravel(np.asarray(value, float))]
    return numbers[0] if len(numbers) == 1 else numbers


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a line that is damaged, or was cut short by a crash, is passed over."""
    if not path.exists():
        return []
    with open_regular(path) as file:
        lines = file.read().decode(errors="replace").splitlines()
    return [row for row in map(parsed, lines) if row is not None]


def newest(path: Path) -> dict[str, Any] | None:
    """The last whole row, found from the end of the file; None where there is none."""
    if not path.exists():
        return None
    with open_regular(path) as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    return next(filter(None, map(parsed, reversed(lines))), None)


def parsed(line: str) -> dict[str, Any] | None:
    """What a line says; None for one that is damaged, or was cut short by a crash."""
    with contextlib.suppress(ValueError, RecursionError):
        row = json.loads(line)
        return row if _whole(row) else None
    return None


def _whole(row: Any) -> bool:
    """Whether it is one that `MetricsFile` writes."""
    number = lambda x: x is None or (isinstance(x, (int, float)) and not isinstance(x, bool))  # noqa: E731
    cells = lambda x: all(map(number, x)) if isinstance(x, list) else number(x)  # noqa: E731
    return isinstance(row, dict) and isinstance(row.get("steps"), int) and all(map(cells, row.values()))


def table(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Columns: "steps" [N], every other tag [N, R]; NaN where a row lacks it."""
    names = {name: None for row in rows for name in row}
    columns = {}
    for name in names:
        width = max(np.size(row.get(name, 0.0)) for row in rows)
        blank = np.full(width, np.nan)
        cells = [np.asarray(row[name], float).reshape(-1) if name in row else blank for row in rows]
        columns[name] = np.stack([np.broadcast_to(cell, width) for cell in cells])
    if "steps" in columns:
        columns["steps"] = columns["steps"][:, 0].astype(int)
    return columns
