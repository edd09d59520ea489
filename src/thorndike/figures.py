"""Matplotlib figures: shown by every notebook, with as little frame as is needed, and saved with clear errors.

Importing this imports matplotlib, so modules of the package import it inside functions.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import figure as matplotlib_figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from thorndike.errors import ConfigError

COLOURS = (
    "#2b6cb0", "#c05621", "#2f855a", "#b83280", "#6b46c1", "#0e7490", "#a16207", "#c53030", "#4a5568", "#65a30d",
)  # fmt: skip
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))  # then with other strokes


class Figure(matplotlib_figure.Figure):
    """A figure that a notebook shows as a cell's last value, whether or not `%matplotlib inline` was said."""

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=100)
        return data.getvalue()


def new_figure(width: float = 7.0, height: float = 4.2) -> Figure:
    """An empty figure of that size in inches, whose labels never overlap or leave it."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def style(index: int) -> dict[str, Any]:
    """Colour and stroke of the line number `index`: forty that differ."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}


def dress(axes: Any, x: str, y: str) -> None:
    """Labels, short numbers along x, a grid, and no more frame than is needed."""
    axes.set(xlabel=x, ylabel=y)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def short(number: float) -> str:
    """1,500,000 as "1.5M", 20,000 as "20k", and less than a thousand as it is."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.4g}{unit}"
    return f"{number:.4g}"


def curve(x: Sequence[float], y: Sequence[float], label: str) -> Figure:
    """One quantity against environment steps, a dot for each value."""
    figure = new_figure()
    axes = figure.subplots()
    axes.plot(x, y, marker="o", linewidth=2, **style(0))
    dress(axes, "environment steps", label)
    return figure


def drawn(figure: Figure, dpi: int = 100) -> Any:
    """The figure as an array uint8 [height, width, 3]."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(figure: Figure, out: str | Path) -> None:
    """Write a figure, making its folder; raises `ConfigError` for a format that matplotlib does not write."""
    out = Path(out).expanduser()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(out, dpi=150)
    except ValueError as error:
        raise ConfigError(f"cannot write {out}: {error}") from None
