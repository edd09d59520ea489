"""Draw the learning curves of the family pages: `python tools/curves.py [NAME...]`, ten minutes on two cores.

Those in `LONG` are drawn from the runs of the nightly suite, in the directory that follows `--rows`, where
`thorndike bench learning --suite nightly` keeps them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import thorndike as td
from thorndike.algorithms import algorithm_class
from thorndike.presets import preset_for

IMAGES = Path(__file__).parents[1] / "docs/images"
RETURNS, LENGTHS = "rollout/ep_rew_mean", "rollout/ep_len_mean"
GREEDY, GREEDY_LENGTHS = "eval/mean_reward", "eval/ep_len_mean"


class Picture(NamedTuple):
    """Runs to train and draw."""

    algorithms: tuple[str, ...]
    env: str
    steps: int | None  # None: the preset's
    seeds: int
    smooth: int = 1
    every: int | None = None  # steps between evaluations
    y: str = ""  # by default greedy returns where there are evaluations, else those of training episodes
    changes: tuple[dict[str, Any], ...] = ()  # of each algorithm's preset
    labels: tuple[str, ...] = ()
    env_kwargs: dict[str, Any] = {}


PICTURES = {
    "cliff": Picture(("q-learning", "sarsa", "expected-sarsa"), "CliffWalking-v1", 20_000, 20, 10),
    "policy": Picture(("reinforce", "a2c", "trpo", "ppo"), "CartPole-v1", 100_000, 4, 5),
    "value": Picture(("dqn", "c51", "pqn"), "CartPole-v1", None, 2, every=10_000),
    "actor-critic": Picture(("sac", "td3", "ddpg"), "Pendulum-v1", 8_000, 2, every=800),
    "deep-sea": Picture(
        ("q-learning", "q-learning", "bootstrapped-dqn", "go-explore"), "DeepSea", 10_000, 2, every=500,
        changes=({"count_bonus": 0.0}, {"count_bonus": 0.5}, {}, {}),
        labels=("Q-learning, ε-greedy", "Q-learning, count bonus", "bootstrapped DQN", "Go-Explore"),
    ),
    "dyna": Picture(
        ("q-learning", "dyna-q", "prioritised-sweeping"), "DynaMaze", 4_000, 5, every=200, y=GREEDY_LENGTHS
    ),
    "muzero": Picture(("muzero",), "CartPole-v1", 60_000, 1, every=3_000),
    "feudal": Picture(("feudal-q", "q-learning"), "LargeDynaMaze", 60_000, 4, y=LENGTHS),
    "rl2": Picture(("rl2",), "DoorsTrials", 400_000, 2, smooth=3),
}  # fmt: skip
LONG = {  # name: a row of the nightly suite, and what is drawn of it
    "dreamer": ("dreamer-CartPole-v1", RETURNS),
    "hiro": ("hiro-PointMaze", "rollout/success_rate"),
    "maml": ("maml-Navigation2D", "train/return_after"),
}
LOWEST = {"cliff": -150}  # that is shown: at first all fall off the cliff


def trained(name: str, folder: Path) -> Any:
    """The figure of one of `PICTURES`."""
    picture = PICTURES[name]
    runs = []
    for i, algorithm in enumerate(picture.algorithms):
        change = picture.changes[i] if picture.changes else {}
        known = preset_for(algorithm_class(algorithm), picture.env)[1]
        options = {"seeds": picture.seeds, "evaluate_every": picture.every, "progress": False}
        options |= {"env_kwargs": picture.env_kwargs} if picture.env_kwargs else {}
        preset = td.preset(algorithm, picture.env, **change)
        runs.append(td.train(preset, picture.env, picture.steps or known, out=folder / str(i), **options))
    y = picture.y or (GREEDY if picture.every else RETURNS)
    return td.plot(runs, y=y, smooth=picture.smooth, labels=picture.labels or picture.algorithms)


def cloned(name: str, folder: Path) -> Any:
    """Behavioural cloning of 1, 3 and 10 greedy episodes of PPO."""
    teacher = td.train("ppo", "CartPole-v1", 30_000, out=folder / "teacher", progress=False)
    runs = []
    for episodes in (1, 3, 10):
        data = teacher.record(episodes, out=folder / f"data{episodes}")
        out = folder / f"copy{episodes}"
        options = {"dataset": data.path, "seeds": 4, "evaluate_every": 100, "progress": False}
        runs.append(td.train(td.BC(), "CartPole-v1", 1_500, out=out, **options))
    return td.plot(runs, y=GREEDY, labels=("1 episode", "3 episodes", "10 episodes"))


def transferred(name: str, folder: Path) -> Any:
    """PPO on a longer pole from scratch, and from the torso or all of an agent of the ordinary one."""
    options = {"seeds": 4, "progress": False}
    first = td.train("ppo", "CartPole-v1", 60_000, out=folder / "first", progress=False)
    longer, runs = td.CartPole(half_length=1.5), []
    starts: tuple[dict[str, Any], ...] = ({}, {"start": first, "parts": ("torso",)}, {"start": first})
    for i, start in enumerate(starts):
        preset = td.preset("ppo", "CartPole-v1")
        runs.append(td.train(preset, longer, 30_000, out=folder / str(i), **options, **start))
    return td.plot(runs, labels=("from scratch", "its torso", "all of it"))


MADE = {**dict.fromkeys(PICTURES, trained), "cloning": cloned, "transfer": transferred}


def main(words: list[str]) -> None:
    """Draw those of these names, or all that need no rows."""
    rows = Path(words.pop(words.index("--rows") + 1)) if "--rows" in words else None
    names = [word for word in words if word != "--rows"] or [*MADE, *(LONG if rows else ())]
    for name in names:
        if name in LONG:
            if rows is None:
                raise SystemExit(f"{name} is drawn from a run of the nightly suite: --rows DIRECTORY")
            row, y = LONG[name]
            figure = td.plot(rows / row, y=y, smooth=3)
        else:
            with tempfile.TemporaryDirectory() as folder:
                figure = MADE[name](name, Path(folder))
        if name in LOWEST:
            figure.axes[0].set_ylim(bottom=LOWEST[name], top=0)
        if name in ("dyna", "feudal"):
            figure.axes[0].set_yscale("log")
        figure.savefig(IMAGES / f"{name}.png", dpi=90, bbox_inches="tight")
        print(IMAGES / f"{name}.png", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
