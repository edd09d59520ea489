"""A picture of how an agent chooses along an episode: its distribution over actions, and what it expects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

from thorndike.drivers.scan import member
from thorndike.errors import IncompatibleError, require
from thorndike.runs.results.record import record

if TYPE_CHECKING:
    from thorndike.figures import Figure

PARTS = 4  # of an action of several that are drawn
AREAS = 10  # actions that are told apart as areas; more are rows of a picture


def choices(
    run: Any,
    out: str | Path | None = None,
    seed: int | None = None,
    step: Any = None,
    explore: bool = False,
    start: int = 0,
    length: int = 200,
) -> Figure:
    """Draw the distribution that actions are drawn from at each step of an episode, and V(s), or max_a Q(s, a), below.

    Probabilities are areas from 0 to 1, with a dot for the action that was taken; continuous actions have their mean,
    with a band of a standard deviation, before squashing and scaling. An agent that explores by noise in its network
    has neither: Q(s, a) of each action is drawn.

    Args:
        run: the run.
        out: where to save the figure too; the suffix says the format.
        seed: whose agent.
        step: of which checkpoint.
        explore: act as in training; by default the best action is taken, while the distribution is still the one of
            training.
        start: the seed of the episode.
        length: how many of its steps are drawn, from the first.

    Raises:
        IncompatibleError: the agent tells neither a distribution nor values.
    """
    from thorndike.figures import dress, new_figure, save, style

    agent = run.agent(seed, step=step)
    require(run.spec.players == 1, f"{run.spec.id} is a game of two players, whose positions have no one agent")
    (episode,) = record(agent, member(run.env, 0), 1, start, explore, run.stepping)
    require(length > 0, f"length must be positive, got {length}")
    looks = looked(agent, episode, length)
    panels = _panels(agent, looks)
    value = looks.get("value", looks["q"].max(-1) if "q" in looks else None)
    n, actions = len(next(iter(looks.values()))), np.asarray(episode.actions)
    steps = np.arange(n)
    figure = new_figure(8.0, 1.0 + 1.9 * (len(panels) + (value is not None)))
    axes = np.atleast_1d(figure.subplots(len(panels) + (value is not None), 1, sharex=True))
    for panel, (title, kind, shown, part) in zip(axes, panels):
        if kind == "areas":
            _areas(panel, steps, shown, _taken(agent, actions[:n], part))
        elif kind == "rows":
            mesh = panel.pcolormesh(steps, np.arange(shown.shape[1]), shown.T, cmap="viridis", vmin=0, vmax=1)
            figure.colorbar(mesh, ax=panel, label="probability")
        elif kind == "band":
            mean, std = shown
            panel.fill_between(steps, mean - std, mean + std, alpha=0.2, linewidth=0, color=style(0)["color"])
            panel.plot(steps, mean, linewidth=1.5, **style(0))
        else:
            for i, line in enumerate(shown.T):
                panel.plot(steps, line, linewidth=1.2, label=str(i), **style(i))
            panel.legend(ncols=AREAS, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
        dress(panel, "", title)
    if value is not None:
        axes[-1].plot(steps, value, linewidth=1.5, **style(0))
        dress(axes[-1], "", "V(s)" if "value" in looks else "max Q(s, a)")
    axes[-1].set(xlabel="step of the episode", xlim=(0, max(n - 1, 1)))
    if out is not None:
        save(figure, out)
    return figure


def looked(agent: Any, episode: Any, length: int) -> dict[str, np.ndarray]:
    """What the agent thinks at the first steps of an episode, as in training: `Agent.look` of a batch [N]."""
    n = min(len(episode.rewards), length)
    obs = jax.tree.map(lambda x: np.asarray(x)[:n], episode.observations)
    mask = None if episode.masks is None else jax.tree.map(lambda x: np.asarray(x)[:n], episode.masks)
    agent.reset()
    if not jax.tree.leaves(agent.algorithm.carry(agent.actor, 1)):
        return agent.look(obs, mask, explore=True)
    found = []
    for i in range(n):  # what it remembers is of the steps before
        here = [None if x is None else jax.tree.map(lambda x, i=i: x[i], x) for x in (obs, mask)]
        found.append(agent.look(*here, first=i == 0, explore=True))
        agent.act(here[0], mask=here[1], first=i == 0)
    return {name: np.stack([look[name] for look in found]) for name in found[0]}


def _panels(agent: Any, looks: dict[str, np.ndarray]) -> list[tuple[str, str, Any, int]]:
    """(title, kind, what is drawn, which part of the action) of each panel."""
    space = agent.spec.action
    if "probabilities" in looks:
        p = looks["probabilities"]
        if isinstance(space, MultiBinary):
            return [("P(bit is 1)", "lines", p.reshape(len(p), -1), 0)]
        parts = [p] if p.ndim == 2 else [p[:, i] for i in range(min(p.shape[1], PARTS))]
        names = ["probability"] if p.ndim == 2 else [f"probability, part {i}" for i in range(len(parts))]
        parts = [x[:, : space.nvec[i]] for i, x in enumerate(parts)] if isinstance(space, MultiDiscrete) else parts
        return [(t, "areas" if x.shape[1] <= AREAS else "rows", x, i) for i, (t, x) in enumerate(zip(names, parts))]
    if "mean" in looks:
        mean = looks["mean"].reshape(len(looks["mean"]), -1)
        std = looks["std"].reshape(mean.shape) if "std" in looks else np.zeros_like(mean)
        several = mean.shape[1] > 1
        names = [f"action {i}, unscaled" if several else "action, unscaled" for i in range(min(mean.shape[1], PARTS))]
        return [(name, "band", (mean[:, i], std[:, i]), i) for i, name in enumerate(names)]
    if "q" in looks:
        return [("Q(s, a)", "lines", looks["q"], 0)]
    raise IncompatibleError(f"{type(agent.algorithm).__name__} tells neither a distribution over actions nor values")


def _taken(agent: Any, actions: np.ndarray, part: int) -> np.ndarray:
    """The index of the chosen one among a part's actions, [N]."""
    if isinstance(agent.spec.action, Discrete):
        return actions - int(agent.spec.action.start)
    return (actions - agent.spec.action.start)[:, part]


def _areas(panel: Any, steps: np.ndarray, p: np.ndarray, taken: np.ndarray) -> None:
    """Probabilities [N, A] one above the other, and a dot in the middle of the one that was taken."""
    from thorndike.figures import COLOURS

    panel.stackplot(
        steps, p.T, colors=COLOURS, labels=[str(i) for i in range(p.shape[1])], linewidth=0, step="mid", alpha=0.75
    )
    below = np.concatenate([np.zeros((len(p), 1)), np.cumsum(p, 1)], 1)
    rows = np.arange(len(p))
    middle = (below[rows, taken] + below[rows, taken + 1]) / 2
    panel.scatter(steps, middle, s=6, color="black", linewidths=0, zorder=3, label="taken")
    panel.legend(ncols=AREAS, fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    panel.set(ylim=(0, 1))
