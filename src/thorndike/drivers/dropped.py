"""Steps in which an environment failed and was restarted: learning must not see them.

What such a step would have led to is not known. Reported as a truncation it would look like a free way out of an
episode that costs something, and agents would learn to crash the simulator. So the step before it is where the episode
was cut, and an earlier step of the same environment takes the place of the one that failed: experience that did happen.
"""

from __future__ import annotations

import jax
import numpy as np

from thorndike.types import Transition


def without(
    steps: list[Transition], dropped: list[np.ndarray], before: Transition | None
) -> tuple[list[Transition], list[np.ndarray]]:
    """The steps of a rollout with those replaced that failed, and which endings are not those of whole episodes.

    Args:
        steps: T transitions, leaves [R, E, ...].
        dropped: T arrays [R, E], true where an environment failed in that step.
        before: the last step of the rollout before; None at the very beginning.
    """
    if not any(lost.any() for lost in dropped):
        return steps, dropped
    steps = [jax.tree.map(np.array, step) for step in steps]
    dropped, lost = [x.copy() for x in dropped], [x.copy() for x in dropped]
    before = None if before is None else jax.tree.map(np.asarray, before)
    for t in range(len(steps)):
        for row in zip(*np.nonzero(lost[t])):
            found = _substitute(steps, lost, before, t, row)
            if found is not None:
                jax.tree.map(lambda x, y, row=row: x.__setitem__(row, y), steps[t], found)
            ended = steps[t].terminated[row]
            steps[t].first[row], steps[t].truncated[row] = True, ~ended
            if t and not steps[t - 1].ended[row]:
                steps[t - 1].truncated[row] = dropped[t - 1][row] = True
    return steps, dropped


def _substitute(
    steps: list[Transition], lost: list[np.ndarray], before: Transition | None, t: int, row: tuple
) -> Transition | None:
    """A step to learn from in the place of the one at t: the environment's own before it, its next one, or one of
    another environment; None where nothing but failures has happened yet."""
    places = [(steps[t - 1], row)] if t else [] if before is None else [(before, row)]
    places += [(later, row) for later, gone in zip(steps[t + 1 :], lost[t + 1 :]) if not gone[row]]
    places += [(steps[t], other) for other in zip(*np.nonzero(~lost[t]))]
    return jax.tree.map(lambda x: x[places[0][1]], places[0][0]) if places else None
