"""A picture of what an agent expects: the distribution of the return of each action in one state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import IncompatibleError, require


def plot_returns(
    agent: Any, obs: Any, out: str | Path | None = None, *, mask: Any = None, names: Sequence[str] | None = None
) -> Any:
    """The distribution of the return of every action at one observation, as its agent has learned it.

    Each action is a line of the chance that the return is at most so much; a dotted line marks its mean, Q(s, a).

    Args:
        agent: of an algorithm with a distributional head, such as C51, QRDQN, IQN or Rainbow.
        obs: one observation.
        out: where to save the picture (.png, .svg, .pdf).
        mask: legal actions [A], where the environment has them; others are not drawn.
        names: of the actions.

    Returns:
        A matplotlib figure; a notebook shows it.

    Raises:
        IncompatibleError: the agent knows no distributions, or `obs` does not fit.
        ConfigError: there are more or fewer names than actions.
    """
    from thorndike.figures import dress, new_figure, save, style

    found = agent.look(obs, mask=mask)
    if "returns" not in found:
        kind = type(agent.algorithm).__name__
        raise IncompatibleError(
            f"{kind} has learned the mean of returns alone: train one whose head is td.Categorical, td.Quantiles or "
            "td.Implicit"
        )
    returns, mass, q = found["returns"], found["return_probabilities"], found["q"]
    if returns.ndim != 2:
        raise IncompatibleError("plot_returns draws one observation, not a batch")
    names = [f"action {i}" for i in range(len(q))] if names is None else list(names)
    require(len(names) == len(q), f"there are {len(q)} actions, and {len(names)} names")
    figure = new_figure()
    axes = figure.subplots()
    legal = np.ones(len(q), bool) if mask is None else np.asarray(mask, bool)
    for i in np.flatnonzero(legal):
        values, below = cumulative(returns[i], mass[i])
        axes.step(values, below, where="post", label=f"{names[i]}, mean {q[i]:.3g}", **style(int(i)))
        axes.axvline(q[i], color=style(int(i))["color"], linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_ylim(-0.02, 1.02)
    dress(axes, "return", "chance of at most so much")
    axes.legend(frameon=False)
    if out is not None:
        save(figure, out)
    return figure


def cumulative(values: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distribution function of weighted values [N]: where it steps, from the first value on, and how high."""
    order = np.argsort(values)
    values, below = values[order], np.cumsum(mass[order])
    return np.concatenate([values[:1], values]), np.concatenate([[0.0], below])
