"""What planning does, drawn: values that spread over sweeps, fewer episodes with a model, and a shortcut that is found.

    python benchmarks/planning.py

Writes docs/images/values.png, and planning.png beside it; about a minute on an idle machine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import thorndike as td
from thorndike.figures import dress, new_figure, save, style
from thorndike.planning import dynamic_programming as dp

IMAGES = Path(__file__).resolve().parents[1] / "docs/images"
SWEEPS = (1, 5, 20)
SEEDS = 8


def episodes(algorithm: Any, env: str, steps: int) -> list[dict[str, np.ndarray]]:
    """The training episodes of each of `SEEDS` runs."""
    with tempfile.TemporaryDirectory() as folder:
        run = td.train(algorithm, env, steps, seeds=SEEDS, out=Path(folder) / "run", progress=False)
        found = run.episodes()
    return [{name: x[found["member"] == i] for name, x in found.items()} for i in range(SEEDS)]


def spread(axes: Any, sweeps: int) -> None:
    """FourRooms' values after so many sweeps."""
    env = td.four_rooms()
    model, v = dp.model_of(env), np.zeros(169)
    for _ in range(sweeps):
        v = dp.q_of(model, v, 0.95).max(-1)
    v = np.where(env.layout.goal, 1.0, np.where(env.layout.wall, np.nan, v)).reshape(13, 13)
    axes.imshow(v, "viridis", vmin=0, vmax=1)
    axes.set(title=f"V after {sweeps} sweep{'s' * (sweeps > 1)}", xticks=[], yticks=[], facecolor="#c3cad3")


def main() -> None:
    """Draw the figures."""
    figure = new_figure(11.0, 3.6)
    for i, sweeps in enumerate(SWEEPS):
        spread(figure.add_subplot(1, len(SWEEPS), i + 1), sweeps)
    save(figure, IMAGES / "values.png")
    figure = new_figure(11.0, 3.6)
    axes = figure.add_subplot(1, 2, 1)
    for i, (planning, steps) in enumerate(((0, 12_000), (5, 4_000), (50, 3_000))):
        runs = episodes(td.DynaQ(planning=planning), "DynaMaze", steps)
        mean = np.mean([run["length"][1:20] for run in runs], 0)
        axes.plot(np.arange(2, 21), mean, label=f"{planning} updates from the model", **style(i))
    axes.axhline(14, color="#4a5568", linewidth=0.8, linestyle=":")
    dress(axes, "episode in DynaMaze", "steps to the goal")
    axes.set(yscale="log")
    axes.legend(frameon=False)
    axes = figure.add_subplot(1, 2, 2)
    for i, name in enumerate(("dyna-q", "dyna-q-plus")):
        runs = episodes(td.preset(name, "ShortcutMaze"), "ShortcutMaze", 6_000)
        total = np.mean([np.searchsorted(run["step"], np.arange(6_001), "right") for run in runs], 0)
        axes.plot(total, label={"dyna-q": "Dyna-Q", "dyna-q-plus": "Dyna-Q+"}[name], **style(i))
    axes.axvline(3_000, color="#4a5568", linewidth=0.8, linestyle=":")
    dress(axes, "step in ShortcutMaze, which opens at 3,000", "goals reached")
    axes.legend(frameon=False)
    save(figure, IMAGES / "planning.png")
    print(IMAGES)


if __name__ == "__main__":
    main()
