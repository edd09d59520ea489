"""Files opened in a process that is watched (`open_files.py`), and what must not have happened there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from thorndike.memory.dataset import Episode, write


def opened(good: list, bad: list, modules: str | Path = "") -> list:
    """What happened to each bad file, after the good ones were opened, in a process that is watched.

    It may import what is in the folder `modules`, too.
    """
    places = os.pathsep.join(filter(None, [str(modules), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("open_files.py")), str(len(good))],
        input="\n".join(f"{kind} {path}" for kind, path in good + bad), capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": places},
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(good) + len(bad), done.stderr[-2000:]
    assert [row[2] for row in rows[: len(good)]] == ["opened"] * len(good)
    return rows[len(good) :]


def check(rows: list, **allowed: tuple[str, ...]) -> None:
    """All were refused, or what is allowed for their kind, at once, and nothing in them was executed."""
    for kind, path, outcome, seconds, events in rows:
        assert outcome in allowed.get(kind, ("refused",)), (kind, path, outcome)
        assert events == [], (path, events)
        assert seconds < 2, (path, seconds)


def recorded(path: Path) -> Path:
    """A dataset of one episode."""
    last = np.arange(8) == 7
    return write(path, [Episode(np.zeros((9, 4), np.float32), np.zeros(8, int), np.ones(8), last, ~last)])
