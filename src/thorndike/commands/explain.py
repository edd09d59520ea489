"""`thorndike explain`: what an agent goes by."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from thorndike.commands.opening import Step, open_run, parse


def explain(
    run: Path,
    /,
    out: Path | None = None,
    method: Literal["integrated", "gradient", "gradient-x-input", "occlusion", "shapley"] = "integrated",
    of: Literal["action", "value"] = "action",
    part: int = 0,
    leaves: int = 15,
    names: tuple[str, ...] = (),
    seed: int | None = None,
    step: Step = None,
    env: str | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Write a page about what an agent goes by: how much each feature counts over an episode, and a decision tree.

    Args:
        run: the run's directory
        out: the file; by default explain.html in the run's directory
        method: how what it does is attributed to what it sees; shapley is exact, for at most 12 features
        of: its action, or the value that it expects
        part: which dimension of the action, where it has several
        leaves: the most of a tree that does as the agent does (needs scikit-learn); 0 for none
        names: of the features, in their order
        seed: whose agent; by default the first seed's
        step: of which checkpoint, a number of steps or best; by default the newest
        env: the environment, where it is one of your own (./my_env.py:MyEnv)
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    opened = open_run(run, env, classes)
    from thorndike.errors import IncompatibleError, MissingExtraError

    found = opened.explain(seed=seed, step=step, method=method, of=of, part=part, names=names)
    print(found)
    tree = None
    if leaves:
        try:
            tree = opened.tree(leaves, seed=seed, step=step, names=names)
        except (IncompatibleError, MissingExtraError) as error:
            tree = f"There is no tree: {error}."
        print(f"\n{tree}")
    print(found.save(out or run / "explain.html", tree))


def main(words: list[str]) -> None:
    """The command."""
    parse(explain, words)
