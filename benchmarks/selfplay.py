"""Games of self-play per second, learning included.

    python benchmarks/selfplay.py

AlphaZero at its presets: 32 simulations a move, the search, the network and the game compiled together.
"""

from __future__ import annotations

import itertools
import statistics
from typing import Any

from marks import marks

import thorndike as td


def measure(game: str, rows: int) -> dict[str, float]:
    """Moves, games and simulations per second: medians over rows of metrics, but for the first two."""
    algorithm: Any = td.preset("alphazero", f"pgx/{game}")
    every = 8 * algorithm.num_envs * algorithm.rollout_length
    found = marks(algorithm, f"pgx/{game}", every * rows, every)[2:]
    pairs = list(itertools.pairwise(found))
    moves = statistics.median((b[0] - a[0]) / (b[1] - a[1]) for a, b in pairs)
    games = statistics.median((b[2] - a[2]) / (b[1] - a[1]) for a, b in pairs)
    return {"moves": moves, "games": games, "simulations": moves * algorithm.simulations}


if __name__ == "__main__":
    for game in ("tic_tac_toe", "connect_four"):
        result = measure(game, 14)
        print(game, ", ".join(f"{value:,.0f} {name}/s" for name, value in result.items()), flush=True)
