"""A picture of what an agent thinks over two numbers of what it sees: its value, and what it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box

from thorndike.drivers.scan import member
from thorndike.errors import ConfigError, require
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.record import record
from thorndike.types import Spec

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
    from thorndike.figures import save

    agent = run.agent(seed, step=step)
    plane = plane_of(run, agent, over)
    figure = draw(plane, *looked_at(plane, agent), agent.spec)
    if out is not None:
        save(figure, out)
    return figure


class Plane(NamedTuple):
    """A grid over two numbers of the observation, P points on each side."""

    over: tuple[int, int]
    axes: list[np.ndarray]  # the values along each [P]
    grid: np.ndarray  # observations [P·P, n], the first number changing slowest
    seen: np.ndarray  # what the agent saw in episodes of its own [N, n]


def plane_of(run: Any, agent: Agent, over: tuple[int, int]) -> Plane:
    """The plane through what an agent mostly sees; raises `ConfigError` as `surface` does."""
    space = run.spec.observation
    require(
        isinstance(space, Box) and len(space.shape) == 1,
        f"a surface is over two numbers of a vector, and {run.spec.id} shows {space}",
    )
    n = space.shape[0]
    require(len(over) == 2 and len(set(over)) == 2, "say two different numbers of the observation, over=(0, 1)")
    require(all(0 <= i < n for i in over), f"an observation has the numbers 0 to {n - 1}, not {over[0]} and {over[1]}")
    episodes = record(agent, member(run.env, 0), EPISODES, 0, False, run.stepping)
    seen = np.concatenate([np.asarray(episode.observations)[:-1] for episode in episodes])
    axes = [np.linspace(*_range(seen[:, i]), POINTS) for i in over]
    first, second = np.meshgrid(*axes, indexing="ij")
    grid = np.broadcast_to(np.median(seen, 0), (POINTS**2, n)).copy()
    grid[:, over[0]], grid[:, over[1]] = first.ravel(), second.ravel()
    return Plane(over, axes, grid.astype(space.dtype), seen)


def looked_at(plane: Plane, agent: Agent) -> tuple[np.ndarray, np.ndarray]:
    """The agent's values and the first numbers of its greedy actions over the plane, [P·P] both."""
    agent.reset()
    value = agent.values(plane.grid)
    value = value.max(1) if value.ndim == 2 else value
    return value, np.asarray(agent.act(plane.grid), float).reshape(POINTS**2, -1)[:, 0]


def draw(plane: Plane, value: np.ndarray, action: np.ndarray, spec: Spec, limits: Any = (None, None)) -> Figure:
    """Both as pictures side by side; `limits` are the ends of each one's colours, None for its own."""
    from thorndike.figures import new_figure

    figure = new_figure(9.0, 3.8)
    several = int(np.prod(spec.action.shape or (1,))) > 1
    pictures = [
        ("value", value, "viridis"),
        ("greedy action, its first number" if several else "greedy action", action, "coolwarm"),
    ]
    (x, y), over = plane.axes, plane.over
    for panel, (title, drawn, colours), ends in zip(figure.subplots(1, 2), pictures, limits):
        low, high = ends or (None, None)
        kind: Any = {"cmap": colours, "shading": "nearest", "vmin": low, "vmax": high}
        mesh = panel.pcolormesh(x, y, drawn.reshape(POINTS, POINTS).T, **kind)
        figure.colorbar(mesh, ax=panel)
        panel.scatter(*plane.seen[:, over].T, s=3, color="black", alpha=0.25, linewidths=0)
        panel.set(title=title, xlabel=f"observation[{over[0]}]", ylabel=f"observation[{over[1]}]")
        panel.set(xlim=x[[0, -1]], ylim=y[[0, -1]])
    return figure


def _range(x: np.ndarray) -> tuple[float, float]:
    """From the least to the greatest of what was seen, and a little further."""
    low, high = float(x.min()), float(x.max())
    if not np.isfinite((low, high)).all():
        raise ConfigError("what the agent saw is not finite")
    margin = BEYOND * (high - low) or 1.0
    return low - margin, high + margin
