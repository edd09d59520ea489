"""`thorndike picture`: what was learned, on a grid or over two numbers, and how actions are chosen."""

from __future__ import annotations

from pathlib import Path

from thorndike.commands.opening import Step, open_run, parse
from thorndike.errors import require


def picture(
    run: Path,
    /,
    out: Path | None = None,
    over: tuple[int, int] | None = None,
    film: bool = False,
    actions: bool = False,
    front: tuple[str, str] | None = None,
    explore: bool = False,
    length: int = 200,
    seed: int | None = None,
    step: Step = None,
    env: str | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Draw what was learned: values and greedy actions, of a table on a grid, or over two numbers of the observation.

    With --actions it is how actions are chosen along an episode: their probabilities, or mean and standard deviation,
    above what the agent expects.

    Args:
        run: the run's directory
        out: the picture, .png, .svg or .pdf; by default in the run's directory, called by what it shows
        over: which two numbers of a vector of observations, from 0
        film: a film over the checkpoints that were kept, .gif or .mp4 (train with --checkpoint-steps)
        actions: the distribution over actions along an episode
        front: two objectives, such as terms of the reward that td.Weighted weighs: what each agent earns of both
        explore: with --actions: act as in training; by default the best action is taken
        length: with --actions: how many steps of the episode
        seed: whose agent, where several were trained
        step: with --actions: of which checkpoint, a number of steps or best; by default the newest
        env: the environment, where it is one of your own (./my_env.py:MyEnv)
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    kinds = [name for name, asked in (("film", film), ("actions", actions), ("front", front)) if asked]
    require(len(kinds) < 2, f"--{' and --'.join(kinds)} are different pictures: ask for one")
    require(
        over is None or kinds in ([], ["film"]), "--over is a plane of observations: ask for it alone, or a film of it"
    )
    require(not film or out is None or out.suffix in (".gif", ".mp4"), f"films are .gif or .mp4, not {out}")
    opened = open_run(run, env, classes)
    out = out or run / ("values.gif" if film else f"{kinds[0]}.png" if kinds else "values.png")
    if front is not None:
        print(opened.front(front, out))
        print(out)
        return
    if actions:
        opened.choices(out, seed=seed, step=step, explore=explore, length=length)
        print(out)
        return
    found = opened.picture(out, seed, over)
    print(found if out.suffix in (".gif", ".mp4") else out)


def main(words: list[str]) -> None:
    """The command."""
    parse(picture, words)
