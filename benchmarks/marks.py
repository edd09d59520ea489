"""When a training run had taken how many steps: the clock of all benchmarks."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np

import thorndike as td


def marks(algorithm: Any, env: Any, steps: int, log_every: int, seeds: int = 1) -> list[tuple[int, float, int]]:
    """For each row of metrics from learning: steps of all seeds, seconds on the clock, episodes that have ended."""
    found: list[tuple[int, float, int]] = []

    def mark(run: td.Run, row: dict[str, Any]) -> None:
        if any(name.startswith("train/") for name in row):
            episodes = int(np.sum(row["rollout/episodes"]))
            found.append((row["steps"] * run.runs, time.perf_counter(), episodes))

    with tempfile.TemporaryDirectory() as out:
        td.train(algorithm, env, steps, seeds=seeds, out=out, progress=False, log_every=log_every, on_row=mark)
    if len(found) < 2:
        raise SystemExit(f"{steps} steps are too few to time")
    return found
