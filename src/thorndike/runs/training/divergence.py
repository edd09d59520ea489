"""Runs whose metrics are no longer finite: which metric was first, when, and what usually causes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # whose module imports JAX
    from thorndike.drivers.state import Tally

CAUSES = {  # in the order in which trouble spreads
    "rollout/observation_max": "An observation of the environment, or in the dataset, was not finite: look at its "
    "reset and its step",
    "rollout/legal_actions": 'An environment allowed no action: info["mask"] was false for all choices, or for all of '
    "one part of the action, in a state that is not terminal",
    "rollout/reward_mean": "A reward of the environment, or in the dataset, was not finite, or the sum of them was "
    "not: look at its reward function",
    "rollout/earned_mean": "A cost, or a term of the reward, was not finite: look at the environment's info",
    "": "Usual causes: too high a learning rate, rewards or observations of large magnitude (normalise or scale "
    "them), or too large a max_grad_norm",
}


def first_bad(tally: Tally, run: int, chunk: int) -> tuple[str, int, str]:
    """Of a run that has diverged: its first metric that was not finite, at which step, and in which environment.

    `chunk` is the number of environment steps in an iteration.
    """
    bad = {name: int(tally.of(name, tally.bad)[run]) for name in tally.names}
    first = min(when for when in bad.values() if when >= 0)
    names = [name for name, when in bad.items() if when == first]
    culprit = int(np.asarray(tally.culprit)[run])
    name = next((n for n in CAUSES if n in names), names[0])
    return name, (first + 1) * chunk, f" in environment {culprit}" if culprit >= 0 else ""


def diverged_at(tally: Tally, lost: np.ndarray, chunk: int) -> dict[str, int]:
    """The runs that have diverged, by their place among `members()`, and the step at which each did."""
    return {str(run): first_bad(tally, run, chunk)[1] for run in np.flatnonzero(lost).tolist()}


def one_of_several(tally: Tally, run: int, chunk: int, member: dict[str, Any]) -> str:
    """What is said when one run diverges and others go on."""
    name, at, whose = first_bad(tally, run, chunk)
    return (
        f"warning: the run of {member} has diverged: {name} was its first metric that is not finite, at step "
        f"{at}{whose}. The others go on without it"
    )


def all_of_them(tally: Tally, chunk: int, members: list[dict[str, Any]]) -> tuple[str, str, str]:
    """The metric that went first of all, what is said when no run is left, and the usual causes."""
    found = [first_bad(tally, run, chunk) for run in range(len(members))]
    run = min(range(len(members)), key=lambda run: found[run][1])
    name, at, whose = found[run]
    where = "" if len(members) == 1 else f" in the run of {members[run]}, and the others have diverged too"
    what = "stopped" if name.startswith("rollout/") else "diverged"
    text = f"training {what}: {name} was the first metric that is not finite, at step {at}{whose}{where}"
    return name, text, CAUSES.get(name, CAUSES[""])
