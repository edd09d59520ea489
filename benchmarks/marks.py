"""When a training run had taken how many steps: the clock of all benchmarks."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np

import thorndike as td
from thorndike.runs.training.loop import Loop


def marks(algorithm: Any, env: Any, steps: int, log_every: int, seeds: int = 1) -> list[tuple[int, float, int]]:
    """For each row of metrics from learning: steps of all seeds, seconds on the clock, episodes that have ended."""
    found: list[tuple[int, float, int]] = []
    log = Loop.log

    def marked(self: Loop, warm: bool) -> None:
        log(self, warm)
        if not warm:
            episodes = int(np.asarray(self.state.episodes.count).sum())
            found.append((self.steps * self.run.runs, time.perf_counter(), episodes))

    Loop.log = marked  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as out:
            td.train(algorithm, env, steps=steps, seeds=seeds, out=out, progress=False, log_every=log_every)
    finally:
        Loop.log = log  # type: ignore[method-assign]
    if len(found) < 2:
        raise SystemExit(f"{steps} steps are too few to time")
    return found
