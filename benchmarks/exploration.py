"""Four ways to explore, side by side: DQN by ε-greedy, by softmax and by noise, and bootstrapped DQN, on one DeepSea.

    python benchmarks/exploration.py [EPISODES]

Writes docs/images/exploration.png and says how often each run found the treasure; about a minute of CPU time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import thorndike as td
from thorndike.figures import dress, new_figure, save, style

IMAGE = Path(__file__).resolve().parents[1] / "docs/images/exploration.png"
SIZE, SEEDS, WINDOW = 12, 3, 100


def agents() -> dict[str, Any]:
    """The same network, memory and number of updates for all."""
    ensemble = td.preset("bootstrapped-dqn", "DeepSea")
    same = {
        name: getattr(ensemble, name)
        for name in ("torso", "replay", "target_period", "replay_ratio", "learning_rate", "normalize_observation")
    }
    return {
        "ε-greedy, ε from 1 to 0.05": td.DQN(**same),
        "softmax, temperature from 1 to 0.05": td.DQN(**same, exploration=td.Softmax()),
        "noisy layers": td.DQN(**same, noisy=0.5, exploration=td.Epsilon(start=0.0, end=None)),
        "bootstrapped, Thompson sampling": ensemble,
    }


def found(algorithm: Any, episodes: int) -> np.ndarray:
    """Which dives of each run found the treasure, bool [SEEDS, episodes]."""
    with tempfile.TemporaryDirectory() as folder:
        run = td.train(
            algorithm, td.DeepSea(size=SIZE), SIZE * episodes, seeds=SEEDS, out=Path(folder) / "run", progress=False
        )
        played = run.episodes()
    each = [played["return"][played["member"] == i] > 0.5 for i in range(SEEDS)]
    shortest = min(map(len, each))
    return np.array([x[:shortest] for x in each])


def main(episodes: int = 1_000) -> None:
    """Draw the shares of dives that found the treasure: the mean of the runs, and their range."""
    figure = new_figure()
    axes = figure.subplots()
    for i, (name, algorithm) in enumerate(agents().items()):
        dives = found(algorithm, episodes)
        first = [int(x.argmax()) + 1 if x.any() else None for x in dives]
        print(f"{name}: first found in dive {first}, {dives.sum(1).tolist()} of {dives.shape[1]} dives", flush=True)
        shares = np.apply_along_axis(np.convolve, 1, dives.astype(float), np.full(WINDOW, 1 / WINDOW), "valid")
        x = np.arange(shares.shape[1]) + WINDOW
        axes.plot(x, shares.mean(0), label=name, linewidth=2, **style(i))
        axes.fill_between(x, shares.min(0), shares.max(0), color=style(i)["color"], alpha=0.15, linewidth=0)
    dress(axes, f"dives in DeepSea {SIZE}", f"share of the last {WINDOW} that found the treasure")
    axes.legend(frameon=False)
    save(figure, IMAGE)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
