"""Draw the learning curves of the family pages: `python tools/curves.py [NAME...]`, some minutes on two cores."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import thorndike as td

IMAGES = Path(__file__).parents[1] / "docs/images"
PICTURES = {  # name: (algorithms, environment, steps, seeds, smooth, the lowest return that is shown)
    "cliff": (("q-learning", "sarsa", "expected-sarsa"), "CliffWalking-v1", 20_000, 20, 10, -150),
    "policy": (("reinforce", "a2c", "trpo", "ppo"), "CartPole-v1", 100_000, 4, 5, None),
    "value": (("dqn", "c51", "pqn"), "CartPole-v1", 100_000, 2, 5, None),
    "actor-critic": (("sac", "td3", "ddpg"), "Pendulum-v1", 8_000, 2, 5, None),
}


def draw(name: str) -> None:
    """Train with presets, and draw the returns of training episodes."""
    algorithms, env, steps, seeds, smooth, lowest = PICTURES[name]
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            td.train(td.preset(algorithm, env), env, steps, seeds=seeds, out=Path(folder) / algorithm, progress=False)
            for algorithm in algorithms
        ]
        figure = td.plot(runs, smooth=smooth, labels=algorithms)
        if lowest is not None:
            figure.axes[0].set_ylim(bottom=lowest, top=0)
        figure.savefig(IMAGES / f"{name}.png", dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        draw(name)
        print(IMAGES / f"{name}.png")
