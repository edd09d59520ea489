"""`thorndike record`: episodes of the agent as a dataset."""

from __future__ import annotations

from pathlib import Path

from thorndike.commands.opening import Step, open_run, parse


def record(
    run: Path,
    /,
    episodes: int = 10,
    out: Path | None = None,
    seed: int = 0,
    explore: bool = False,
    step: Step = None,
    env: str | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Record episodes of the trained agent as a dataset: thorndike train bc ENV --dataset DIR.

    Args:
        run: the run's directory
        episodes: how many
        out: the dataset's directory; by default dataset in the run's directory
        seed: of the environment
        explore: act as in training; by default the best action is taken
        step: of which checkpoint, a number of steps or best; by default the newest
        env: the environment, where it is one of your own (./my_env.py:MyEnv)
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    dataset = open_run(run, env, classes).record(episodes, out, seed, explore, step)
    print(f"{dataset.path}: {len(dataset.lengths)} episodes, {len(dataset)} steps, return {dataset.returns.mean():.1f}")


def main(words: list[str]) -> None:
    """The command."""
    parse(record, words)
