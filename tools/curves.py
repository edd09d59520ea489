"""Draw the learning curves of the family pages: `python tools/curves.py [NAME...]`, some minutes on two cores."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import thorndike as td
from thorndike.algorithms import algorithm_class
from thorndike.presets import preset_for

IMAGES = Path(__file__).parents[1] / "docs/images"
PICTURES = {  # name: (algorithms, environment, steps or the preset's, seeds, smooth, steps between evaluations)
    "cliff": (("q-learning", "sarsa", "expected-sarsa"), "CliffWalking-v1", 20_000, 20, 10, None),
    "policy": (("reinforce", "a2c", "trpo", "ppo"), "CartPole-v1", 100_000, 4, 5, None),
    "value": (("dqn", "c51", "pqn"), "CartPole-v1", None, 2, 1, 10_000),
    "actor-critic": (("sac", "td3", "ddpg"), "Pendulum-v1", 8_000, 2, 1, 800),
}
LOWEST = {"cliff": -150}  # that is shown: at first all fall off the cliff


def draw(name: str) -> None:
    """Train with presets, and draw greedy returns of evaluations, or, without these, of training episodes."""
    algorithms, env, steps, seeds, smooth, every = PICTURES[name]
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for algorithm in algorithms:
            preset, known = td.preset(algorithm, env), preset_for(algorithm_class(algorithm), env)[1]
            options = {"seeds": seeds, "evaluate_every": every, "progress": False}
            runs.append(td.train(preset, env, steps or known, out=Path(folder) / algorithm, **options))
        tag = "eval/mean_reward" if every else "rollout/ep_rew_mean"
        figure = td.plot(runs, y=tag, smooth=smooth, labels=algorithms)
        if name in LOWEST:
            figure.axes[0].set_ylim(bottom=LOWEST[name], top=0)
        figure.savefig(IMAGES / f"{name}.png", dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        draw(name)
        print(IMAGES / f"{name}.png")
