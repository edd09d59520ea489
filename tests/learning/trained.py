"""What the learning tests share: train quietly, evaluate greedily."""

from __future__ import annotations

from typing import Any

import numpy as np

import thorndike as td


def trained(tmp_path, algorithm: Any, env: Any, steps: int | None = None, **more: Any) -> td.Run:
    """A finished run in a directory of its own."""
    out = tmp_path / f"run_{len(list(tmp_path.iterdir()))}"
    return td.train(algorithm, env, steps, out=out, progress=False, **more)


def greedy(run: td.Run, episodes: int = 50) -> np.ndarray:
    """Mean greedy return of each run [R]."""
    return run.evaluate(episodes).returns.mean(1)
