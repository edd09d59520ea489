"""AlphaZero on connect four for equal time: a residual network of convolutions, or dense layers.

    python benchmarks/boards.py dense 360 & python benchmarks/boards.py residual 360

Side by side, so that both have the same share of the machine; prints a row of results/search.md for each.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import thorndike as td

GAME = "pgx/connect_four"
TORSOS = {
    "dense": td.Torso(widths=(256, 256), activation="relu", images="none"),
    "residual": td.Torso(widths=(128,), activation="relu", parts=(("", td.ResidualCNN(channels=32, blocks=2)),)),
}


def main(kind: str, seconds: float) -> None:
    """Train for so long, then play."""
    preset: Any = td.preset("alphazero", GAME)
    algorithm = dataclasses.replace(preset, learning_rate=1e-3, torso=TORSOS[kind])
    rows: list[tuple[float, int]] = []  # times and steps

    def stop(run: td.Run, row: dict[str, Any]) -> Any:
        rows.append((time.time(), row["steps"]))  # the first row comes after compilation
        return td.STOP if rows[-1][0] - rows[0][0] >= seconds else None

    with tempfile.TemporaryDirectory() as folder:
        every = algorithm.num_envs * algorithm.rollout_length
        out = Path(folder) / "run"
        run = td.train(algorithm, GAME, 4_000_000, out=out, progress=False, log_every=every, on_row=stop)
        cpu = time.process_time()
        random, uct = run.match("random", 200), run.match("uct:100", 60)
    print(f"| {kind} | {rows[-1][1]:,} | {cpu:.0f} | {random.score:.3f} | {uct.score:.3f} |", random, "|", uct)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
