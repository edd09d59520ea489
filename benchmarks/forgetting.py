"""What is forgotten when tasks are learned one after the other, and what cures keep.

Two tasks by one PPO agent that is told which of them it is in: a room with a goal in one corner and a trap in the
opposite one, and then goal and trap have changed places ("corners"); or CartPole, and then CartPole with its actions
swapped ("poles"). Row i of a matrix is the agent after task i, column j its mean return in task j: in a room 1 where
every episode ends at the goal, -1 where all end in the trap. Forgetting is how much of a task's return right after it
was learned is gone in the end, the mean over all but the last task; then, the return in the last task.

    python benchmarks/forgetting.py --seed 0

- naive: each task from the agent of the one before;
- ewc: elastic weight consolidation (Kirkpatrick et al. 2017), `td.PPO(consolidation=...)`;
- replay: the old tasks are played beside the new one (`td.Tasks`), for as many steps in all;
- distillation: each task is learned from the agent of the one before, and then a student learns to do in each task what
  its teacher does there (`td.Distillation`), for as many steps again.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import thorndike as td


@td.config
class Swapped(td.CartPole):
    """CartPole whose two actions have changed places."""

    def step(self, state: Any, action: Any, key: Any) -> td.Step:
        return super().step(state, 1 - action, key)


def room(goal: tuple[int, int], trap: tuple[int, int], size: int = 5) -> td.GridWorld:
    """1 for the goal, -1 for the trap; either ends the episode."""
    rows = [["."] * size for _ in range(size)]
    rows[goal[0]][goal[1]], rows[trap[0]][trap[1]] = "G", "C"
    earns: dict[str, Any] = {"step_reward": 0.0, "goal_reward": 1.0, "cliff_reward": -1.0, "cliff_ends": True}
    return td.GridWorld(map=tuple("".join(row) for row in rows), max_steps=30, **earns)


CURES = ["naive", "ewc", "replay", "distillation"]


class Sequence(NamedTuple):
    """Tasks to be learned one after the other, and by what."""

    tasks: td.Tasks
    algorithm: td.PPO
    steps: int  # of each
    weight: float  # λ of elastic weight consolidation


SEQUENCES = {
    "corners": Sequence(
        td.Tasks([room((0, 0), (4, 4)), room((4, 4), (0, 0))]),
        td.PPO(
            num_envs=8, rollout_length=64, minibatch_size=128, epochs=4, learning_rate=3e-3, discount=0.95,
            entropy_coefficient=0.03, normalize_observation=False, normalize_reward=False,
            torso=td.Torso(widths=(8,)),  # few units, which both tasks have to share
        ),
        30_000,
        300.0,
    ),
    "poles": Sequence(
        td.Tasks([td.CartPole(), Swapped()]),
        td.preset("ppo", "CartPole-v1", normalize_observation=False),  # moving statistics would change what is known
        100_000,
        1000.0,
    ),
}  # fmt: skip


def learned(sequence: Sequence, cure: str, seed: int, folder: Path, episodes: int = 50) -> np.ndarray:
    """Mean returns [after task i, in task j]."""
    tasks, found = sequence.tasks, []
    n = len(tasks.envs)
    run: Any = None
    anchors: list[td.Agent] = []
    importance: list[td.Agent] = []
    for i in range(n):
        world, algorithm = tasks.only(i), sequence.algorithm
        given: Any = None
        if cure == "replay":
            world = tasks.only(*range(i + 1))
        if cure == "ewc" and i > 0:
            anchors, importance = [*anchors, run.agent()], [*importance, td.importance(run, tasks.only(i - 1))]
            algorithm, given = (
                dataclasses.replace(algorithm, consolidation=sequence.weight),
                {"anchor": anchors, "importance": importance},
            )
        how: dict[str, Any] = {"start": run, "parts": ("params",)} if run else {}
        quiet: dict[str, Any] = {"seed": seed, "progress": False}
        fresh = td.train(algorithm, world, sequence.steps, given=given, out=folder / f"{cure}-{i}", **quiet, **how)
        if cure == "distillation" and i > 0:
            teachers = {"teacher": [run if j < i else fresh for j in range(n)]}
            student, both, out = td.Distillation(torso=algorithm.torso), tasks.only(*range(i + 1)), f"student-{i}"
            fresh = td.train(student, both, sequence.steps, given=teachers, out=folder / out, **quiet)
        run = fresh
        found.append([run.evaluate(episodes, env=tasks.only(j)).mean for j in range(n)])
    return np.array(found)


def forgetting(matrix: np.ndarray) -> float:
    """Mean over all tasks but the last of the return right after it was learned, less that in the end."""
    return float((np.diag(matrix) - matrix[-1])[:-1].mean())


def main() -> None:
    """Print the matrix of each cure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="corners", choices=list(SEQUENCES))
    parser.add_argument("--steps", type=int, help="of each task")
    parser.add_argument("--weight", type=float, help="λ of elastic weight consolidation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cures", nargs="+", default=CURES, choices=CURES)
    args = parser.parse_args()
    sequence = SEQUENCES[args.tasks]
    given = {name: getattr(args, name) for name in ("steps", "weight") if getattr(args, name) is not None}
    sequence = sequence._replace(**given)
    with tempfile.TemporaryDirectory() as folder:
        for cure in args.cures:
            matrix = learned(sequence, cure, args.seed, Path(folder))
            print(f"{cure}: forgetting {forgetting(matrix):.2f}, last task {matrix[-1, -1]:.2f}", flush=True)
            for i, row in enumerate(matrix):
                print(f"  after task {i}: " + " ".join(f"{x:7.2f}" for x in row), flush=True)


if __name__ == "__main__":
    main()
