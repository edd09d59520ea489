"""A picture of what was learned in a grid world: state values as colours, the greedy policy as arrows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thorndike.configuration import require
from thorndike.envs.grid.grid_world import MOVES, GridWorld

if TYPE_CHECKING:
    from thorndike.figures import Figure


def draw_values(
    grid: GridWorld,
    q: np.ndarray,
    path: str | Path | None = None,
    limits: tuple[float, float] | None = None,
    cliff: str = "cliff",
) -> Figure:
    """Draw max_a q(s, a) as a heat map and every greedy action (ties included) as an arrow.

    Args:
        grid: the world.
        q: the values [S, A].
        path: where to save the figure too; the suffix says the format.
        limits: the values of the darkest and the brightest colour; by default the least and the greatest shown.
        cliff: what cliffs are called in it.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    from thorndike.figures import new_figure, save

    layout, q = grid.layout, np.asarray(q, float)
    rows, columns = layout.rows, layout.columns
    require(
        q.shape == (rows * columns, 4),
        f"q should be [{rows * columns}, 4] for this grid, got {list(q.shape)}",
    )
    value = q.max(1)
    shown = ~(layout.goal | layout.cliff | layout.wall)
    low, high = (value[shown].min(), value[shown].max()) if limits is None else limits
    colours = ScalarMappable(Normalize(low, high), "viridis")

    figure = new_figure(0.72 * columns + 1.4, 0.72 * rows + 0.6)
    axes = figure.add_subplot()
    for cell in range(rows * columns):
        row, column = divmod(cell, columns)
        special = (
            "wall" if layout.wall[cell] else "cliff" if layout.cliff[cell] else "goal" if layout.goal[cell] else ""
        )
        face = {"wall": "#c3cad3", "cliff": "#b5483a", "goal": "#3f9d5d"}.get(special) or colours.to_rgba(value[cell])
        hatch = "///" if special == "cliff" else None
        edge = "#8f342a" if special == "cliff" else "#ffffff"
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0.8)
        )
        if special in ("cliff", "goal"):
            label = cliff if special == "cliff" else special
            axes.text(column, row, label, ha="center", va="center", fontsize=9, color="white", weight="bold")
        if special:
            continue
        ink = "#1b2433" if np.dot(face[:3], (0.299, 0.587, 0.114)) > 0.5 else "#ffffff"
        axes.text(column, row + 0.36, f"{value[cell]:.3g}", ha="center", va="center", fontsize=7, color=ink)
        greedy = np.flatnonzero(q[cell] >= value[cell] - 1e-6 * max(1.0, abs(value[cell])))
        tail = 0.25 if len(greedy) == 1 else 0.0
        for action in greedy:
            down, right = MOVES[action]
            axes.annotate(
                "",
                xy=(column + 0.3 * right, row - 0.1 + 0.3 * down),
                xytext=(column - tail * right, row - 0.1 - tail * down),
                arrowprops={"arrowstyle": "-|>", "color": ink, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.2},
            )
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    figure.colorbar(colours, ax=axes, label="max q(s, a)", shrink=0.9, pad=0.02)
    if path is not None:
        save(figure, path)
    return figure
