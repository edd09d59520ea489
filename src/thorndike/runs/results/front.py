"""The Pareto front of agents that were trained for several weights of their objectives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import require
from thorndike.names import did_you_mean
from thorndike.ops.pareto import efficient
from thorndike.runs.results.curves import mean
from thorndike.settings import spell

RETURN = "return"  # which is an objective too, beside the terms


@dataclasses.dataclass(frozen=True, repr=False)
class Front:
    """What each of N agents earns of two objectives; `figure` shows it, and `print` lists it."""

    objectives: tuple[str, str]
    labels: list[str]  # of the agents: seeds, and what differs between their configurations
    points: np.ndarray  # mean returns of each, [N, 2]
    efficient: np.ndarray  # which are not dominated, bool [N]
    figure: Any

    def __str__(self) -> str:
        x, y = self.objectives
        rows = [
            f"{'*' if good else ' '} {a:10.4g} {b:10.4g}  {label}"
            for label, (a, b), good in sorted(
                zip(self.labels, self.points.tolist(), self.efficient), key=lambda row: row[1]
            )
        ]
        return "\n".join([f"  {x:>10} {y:>10}  (*: no other agent is better in both)", *rows])

    __repr__ = __str__


def front(
    runs: Any, objectives: tuple[str, str], out: str | Path | None = None, episodes: int = 20, seed: int = 0
) -> Front:
    """Play with every agent of one or several runs, and draw what they earn of two objectives against each other.

    Args:
        runs: a run, such as a sweep over weights of `td.Weighted`, or several of the same environment.
        objectives: the names of two terms of the reward, costs or the like, of which more is better, or "return".
        out: where to save the figure too; the suffix says the format.
        episodes: of each agent.
        seed: of the environments.

    Raises:
        ConfigError: there are no such objectives; names those that there are.
    """
    from thorndike.figures import new_figure, save, short, style

    runs = list(runs) if isinstance(runs, (list, tuple)) else [runs]
    require(len(runs) > 0, "no run to draw: give at least one")
    require(len(objectives) == 2 and objectives[0] != objectives[1], "say two different objectives to draw")
    labels: list[str] = []
    points: list[np.ndarray] = []
    for run in runs:
        found = run.evaluate(episodes, seed)
        told = {**found.earned, RETURN: found.returns}
        for name in objectives:
            require(
                name in told,
                f"{run.path.name} earns nothing called {name!r}{did_you_mean(name, told)}, only "
                f"{' and '.join(sorted(told))}: td.Weighted tells what each named term of a reward earns",
            )
        points.append(np.stack([mean(told[name]) for name in objectives], 1))
        where = f"{run.path.name}: " if len(runs) > 1 else ""
        labels += [where + spell(member).replace("env.weights.", "") for member in run.members()]
    whole = np.concatenate(points)
    good = efficient(whole)

    figure = new_figure(6.0, 4.6)
    axes = figure.subplots()
    best = whole[good][np.argsort(whole[good][:, 0])]
    axes.plot(*best.T, drawstyle="steps-pre", linewidth=1, color="#4a5568", alpha=0.6, zorder=1)
    for i, one in enumerate(points):
        mine = good[sum(map(len, points[:i])) :][: len(one)]
        colour, name = style(i)["color"], runs[i].path.name if len(runs) > 1 else "not dominated"
        axes.scatter(one[mine, 0], one[mine, 1], s=46, color=colour, zorder=3, label=name)
        axes.scatter(one[~mine, 0], one[~mine, 1], s=34, facecolors="none", edgecolors=colour, linewidths=1.2, zorder=2)
    axes.scatter([], [], s=34, facecolors="none", edgecolors="#4a5568", linewidths=1.2, label="dominated")
    axes.set(xlabel=objectives[0], ylabel=objectives[1])
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower left", ncols=2, bbox_to_anchor=(0, 1))
    if out is not None:
        save(figure, out)
    return Front(objectives, labels, whole, good, figure)
