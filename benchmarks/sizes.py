"""PPO with actors and critics of several sizes, with a torso each and with one below both, on Acrobot.

    python benchmarks/sizes.py [STEPS]

Writes docs/images/sizes.png and prints each cell: the mean return of all training episodes and of the last 100, each
the mean of the seeds and their range. Some minutes of CPU time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import thorndike as td
from thorndike.figures import new_figure, save

IMAGE = Path(__file__).resolve().parents[1] / "docs/images/sizes.png"
ENV, SEEDS, LAST = "Acrobot-v1", 3, 100
WIDTHS = (4, 16, 64)  # of both layers


def torso(width: int) -> td.Torso:
    """Two layers of that width."""
    return td.Torso(widths=(width, width))


def networks(actor: int, critic: int | None) -> dict[str, Any]:
    """The fields for an actor and a critic of these widths; without a second one both read one torso."""
    if critic is None:
        return {"torso": torso(actor), "shared_torso": True}
    return {"torso": torso(actor), "critic_torso": torso(critic)}


def learned(fields: dict[str, Any], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean return of all training episodes, and of the last ones, of each seed [SEEDS]."""
    algorithm = td.preset("ppo", ENV, **fields)
    with tempfile.TemporaryDirectory() as folder:
        run = td.train(algorithm, ENV, steps, seeds=SEEDS, out=Path(folder) / "run", progress=False)
        played = run.episodes()
    each = [played["return"][played["member"] == i] for i in range(SEEDS)]
    return np.array([x.mean() for x in each]), np.array([x[-LAST:].mean() for x in each])


def said(scores: np.ndarray) -> str:
    """The mean and the range."""
    return f"{scores.mean():.0f} ({scores.min():.0f} to {scores.max():.0f})"


def main(steps: int = 100_000) -> None:
    """Train each pair, and draw the table of their returns."""
    columns = (*WIDTHS, None)
    whole, last = np.zeros((2, len(WIDTHS), len(columns)))
    for i, actor in enumerate(WIDTHS):
        for j, critic in enumerate(columns):
            over, end = learned(networks(actor, critic), steps)
            whole[i, j], last[i, j] = over.mean(), end.mean()
            print(f"actor {actor}, critic {critic or 'shared'}: {said(over)}, at last {said(end)}", flush=True)
    figure = new_figure(8.4, 3.8)
    for axes, table, title in zip(
        figure.subplots(1, 2), (whole, last), ("all of training", f"the last {LAST} episodes")
    ):
        axes.imshow(table, cmap="Blues", aspect="auto")
        middle = (table.min() + table.max()) / 2
        for i, j in np.ndindex(table.shape):
            colour = "white" if table[i, j] > middle else "#1a202c"
            axes.text(j, i, f"{table[i, j]:.0f}", ha="center", va="center", color=colour)
        axes.axvline(len(WIDTHS) - 0.5, color="white", linewidth=4)
        axes.set(xlabel="width of the critic", ylabel="width of the actor", title=f"mean return, {title}")
        axes.set_xticks(range(len(columns)), [str(width) if width else "one torso" for width in columns])
        axes.set_yticks(range(len(WIDTHS)), list(map(str, WIDTHS)))
    save(figure, IMAGE)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
