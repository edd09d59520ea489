"""Draw the learning curves of the family pages: `python tools/curves.py [NAME...]`, some minutes on two cores."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import thorndike as td

IMAGES = Path(__file__).parents[1] / "docs/images"
PICTURES = {  # name: (algorithms, environment, steps, seeds, smooth)
    "cliff": (("q-learning", "sarsa", "expected-sarsa"), "CliffWalking-v1", 20_000, 20, 10),
    "policy": (("reinforce", "a2c", "trpo", "ppo"), "CartPole-v1", 100_000, 4, 5),
    "value": (("dqn", "c51", "pqn"), "CartPole-v1", 100_000, 2, 5),
    "actor-critic": (("sac", "td3", "ddpg"), "Pendulum-v1", 8_000, 2, 5),
}


def draw(name: str) -> None:
    """Train with presets, and draw the returns of training episodes."""
    algorithms, env, steps, seeds, smooth = PICTURES[name]
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            td.train(td.preset(algorithm, env), env, steps, seeds=seeds, out=Path(folder) / algorithm, progress=False)
            for algorithm in algorithms
        ]
        td.plot(runs, IMAGES / f"{name}.png", smooth=smooth, labels=algorithms)


if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        draw(name)
        print(IMAGES / f"{name}.png")
