"""`thorndike criteria`: what the use of an agent depends on."""

from __future__ import annotations

from json import dumps
from pathlib import Path

from thorndike.commands.opening import Step, open_run, parse


def criteria(
    run: Path,
    /,
    baseline: str = "random",
    episodes: int = 100,
    failure_below: float | None = None,
    claim: float = 0.01,
    shift: float = 0.2,
    seed: int = 0,
    step: Step = None,
    json: bool = False,
    env: str | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Judge a run: against a baseline, how often it fails, how fast it answers, what it cost, and in other physics.

    Args:
        run: the run's directory
        baseline: random, a function of an observation in a file (./rules.py:upright), or another run
        episodes: how many with each agent, and with the baseline
        failure_below: an episode with a lower return is a failure; by default one without success, or with a cost,
            where the environment tells these, else one below the baseline's mean
        claim: a rate of failures; how many episodes without any show that it is lower
        shift: by how much each number of a JAX environment is lowered and raised, as a part of it
        seed: of the episodes
        step: of which checkpoint, a number of steps or best; by default the newest
        json: print JSON
        env: the environment, where it is one of your own (./my_env.py:MyEnv)
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    opened = open_run(run, env, classes)
    from thorndike.runs.results.criteria import criteria as judged
    from thorndike.runs.results.criteria import rule_in

    found = judged(
        opened,
        rule_in(baseline),
        episodes=episodes,
        failure_below=failure_below,
        claim=claim,
        shift=shift,
        seed=seed,
        step=step,
    )
    print(dumps(found.to_json()) if json else found)


def main(words: list[str]) -> None:
    """The command."""
    parse(criteria, words)
