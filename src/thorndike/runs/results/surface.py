"""A picture of what an agent thinks over two numbers of what it sees: its value, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from thorndike.drivers.scan import member
from thorndike.errors import ConfigError, require
from thorndike.runs.results.record import record

if TYPE_CHECKING:
    from thorndike.figures import Figure

POINTS = 81  # along each axis
EPISODES = 5  # that say which observations there are
BEYOND = 0.1  # of the range that they span, on each side


def surface(
    run: Any, over: tuple[int, int], out: str | Path | None = None, seed: int | None = None, step: Any = None
) -> Figure:
    """Draw V(s), or max_a Q(s, a), and the greedy action over two numbers of the observation.

    The others are held at the median of what the agent sees in five episodes of its own, which are drawn over both
    pictures: far from their points it is not known to be right.

    Args:
        run: of an agent without memory, that sees a vector.
        over: the indices of the two numbers.
        out: where to save the figure too; the suffix says the format.
        seed: whose agent.
        step: of which checkpoint.

    Raises:
        ConfigError: it sees something else, or there are no such numbers.
        IncompatibleError: the agent has no values.
    """
    from thorndike.figures import new_figure, save

    space = run.spec.observation
    require(
        isinstance(space, Box) and len(space.shape) == 1,
        f"a surface is over two numbers of a vector, and {run.spec.id} shows {space}",
    )
    n = space.shape[0]
    require(len(over) == 2 and len(set(over)) == 2, "say two different numbers of the observation, over=(0, 1)")
    require(all(0 <= i < n for i in over), f"an observation has the numbers 0 to {n - 1}, not {over[0]} and {over[1]}")
    agent = run.agent(seed, step=step)
    episodes = record(agent, member(run.env, 0), EPISODES, 0, False, run.stepping)
    seen = np.concatenate([np.asarray(episode.observations)[:-1] for episode in episodes])
    axes = [np.linspace(*_range(seen[:, i]), POINTS) for i in over]
    first, second = np.meshgrid(*axes, indexing="ij")
    grid = np.broadcast_to(np.median(seen, 0), (POINTS**2, n)).copy()
    grid[:, over[0]], grid[:, over[1]] = first.ravel(), second.ravel()
    grid = grid.astype(space.dtype)
    agent.reset()
    value = agent.values(grid)
    value = value.max(1) if value.ndim == 2 else value
    action = np.asarray(agent.act(grid), float).reshape(POINTS**2, -1)[:, 0]

    figure = new_figure(9.0, 3.8)
    several = int(np.prod(agent.spec.action.shape or (1,))) > 1
    pictures = [
        ("value", value, "viridis"),
        ("greedy action, its first number" if several else "greedy action", action, "coolwarm"),
    ]
    for panel, (title, drawn, colours) in zip(figure.subplots(1, 2), pictures):
        mesh = panel.pcolormesh(axes[0], axes[1], drawn.reshape(POINTS, POINTS).T, cmap=colours, shading="nearest")
        figure.colorbar(mesh, ax=panel)
        panel.scatter(*seen[:, over].T, s=3, color="black", alpha=0.25, linewidths=0)
        panel.set(title=title, xlabel=f"observation[{over[0]}]", ylabel=f"observation[{over[1]}]")
        panel.set(xlim=axes[0][[0, -1]], ylim=axes[1][[0, -1]])
    if out is not None:
        save(figure, out)
    return figure


def _range(x: np.ndarray) -> tuple[float, float]:
    """From the least to the greatest of what was seen, and a little further."""
    low, high = float(x.min()), float(x.max())
    if not np.isfinite((low, high)).all():
        raise ConfigError("what the agent saw is not finite")
    margin = BEYOND * (high - low) or 1.0
    return low - margin, high + margin
