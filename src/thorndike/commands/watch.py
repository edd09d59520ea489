"""`thorndike watch`: film the agent."""

from __future__ import annotations

from pathlib import Path

from thorndike.commands.opening import Step, open_run, parse


def watch(
    run: Path,
    /,
    video: Path | None = None,
    seed: int | None = None,
    episodes: int = 1,
    frames: int = 1500,
    explore: bool = False,
    step: Step = None,
    env: str | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Film the trained agent.

    Args:
        run: the run's directory
        video: the file, .gif or .mp4; by default video/<steps>.gif in the run's directory
        seed: whose agent, where several were trained
        episodes: how many to film
        frames: where the film stops, also in the midst of an episode
        explore: act as in training; by default the best action is taken
        step: of which checkpoint, a number of steps or best; by default the newest
        env: the environment, where it is one of your own (./my_env.py:MyEnv)
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    print(open_run(run, env, classes).watch(video, seed, episodes, frames, explore, step=step))


def main(words: list[str]) -> None:
    """The command."""
    parse(watch, words)
