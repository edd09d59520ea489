"""What is forgotten when tasks are learned one after the other, and what two cures keep.

CartPole, then CartPole with its actions swapped, by one PPO agent that is told which task it is in. Row i of a matrix
is the agent after task i, column j its mean return in task j. Forgetting is how much of a task's return right after it
was learned is gone in the end, the mean over all but the last task; then, the return in the last task.

    python benchmarks/forgetting.py --seed 0

- naive: each task from the agent of the one before;
- ewc: elastic weight consolidation (Kirkpatrick et al. 2017), `td.PPO(consolidation=...)`;
- replay: the old tasks are played beside the new one (`td.Tasks`), for as many steps in all.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import thorndike as td


@td.config
class Swapped(td.CartPole):
    """CartPole whose two actions have changed places."""

    def step(self, state: Any, action: Any, key: Any) -> td.Step:
        return super().step(state, 1 - action, key)


TASKS = td.Tasks([td.CartPole(), Swapped()])
PPO = td.preset("ppo", "CartPole-v1", normalize_observation=False)  # statistics that move would change what was learned


def sequence(cure: str, steps: int, weight: float, seed: int, folder: Path, episodes: int = 50) -> np.ndarray:
    """Mean returns [after task i, in task j]."""
    n, found = len(TASKS.envs), []
    run: Any = None
    anchors: list[td.Agent] = []
    importance: list[td.Agent] = []
    for i in range(n):
        world, algorithm = TASKS.only(i), PPO
        given: Any = None
        if cure == "replay":
            world = TASKS.only(*range(i + 1))
        if cure == "ewc" and i > 0:
            anchors, importance = [*anchors, run.agent()], [*importance, td.importance(run, TASKS.only(i - 1))]
            algorithm, given = (
                dataclasses.replace(PPO, consolidation=weight),
                {"anchor": anchors, "importance": importance},
            )
        how: dict[str, Any] = {"start": run, "parts": ("params",)} if run else {}
        out = folder / f"{cure}-{i}"
        run = td.train(algorithm, world, steps, given=given, seed=seed, out=out, progress=False, **how)
        found.append([run.evaluate(episodes, env=TASKS.only(j)).mean for j in range(n)])
    return np.array(found)


def forgetting(matrix: np.ndarray) -> float:
    """Mean over all tasks but the last of the return right after it was learned, less that in the end."""
    return float((np.diag(matrix) - matrix[-1])[:-1].mean())


def main() -> None:
    """Print the matrix of each cure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="of each task")
    parser.add_argument("--weight", type=float, default=1000.0, help="λ of elastic weight consolidation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cures", nargs="+", default=["naive", "ewc", "replay"], choices=["naive", "ewc", "replay"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for cure in args.cures:
            matrix = sequence(cure, args.steps, args.weight, args.seed, Path(folder))
            print(f"{cure}: forgetting {forgetting(matrix):.1f}, last task {matrix[-1, -1]:.1f}", flush=True)
            for i, row in enumerate(matrix):
                print(f"  after task {i}: " + " ".join(f"{x:7.1f}" for x in row), flush=True)


if __name__ == "__main__":
    main()
