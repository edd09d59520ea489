"""`thorndike push`: a folder with an agent for a model hub. Uploading it is the user's own step."""

from __future__ import annotations

import sys
from pathlib import Path

from thorndike.commands.opening import Step, open_run, parse


def push(
    run: Path,
    /,
    to: Path,
    episodes: int = 20,
    seed: int | None = None,
    step: Step = None,
    licence: str = "",
    env: str | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Write a folder for a model hub: the agent, its policy as ONNX, a film, scores, and a card (README.md).

    Nothing is uploaded. What cannot be made is left out, and the card says why.

    Args:
        run: the run's directory
        to: a new folder, or an empty one
        episodes: how many each agent plays for the scores, as in thorndike evaluate
        seed: whose agent; by default the first seed's
        step: of which checkpoint, a number of steps or best; by default the newest
        licence: under which others may use it, as hubs write it, such as apache-2.0
        env: the environment, where it is one of your own (./my_env.py:MyEnv)
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    opened = open_run(run, env, classes)
    from thorndike.serve.push import push as written

    print(written(opened, to, episodes, seed, step, licence))
    if not licence:
        print("note: without --licence the card says that others may not use it yet", file=sys.stderr)


def main(words: list[str]) -> None:
    """The command."""
    parse(push, words)
