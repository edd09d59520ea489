"""A comparison as a picture: how fast each side learned, and the share of its runs above each score."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(comparison: Any, out: str | Path | None = None) -> Any:
    """Sample-efficiency curves, an axis for each environment, and performance profiles; saved to `out` if given."""
    from thorndike.figures import dress, new_figure, save, style

    envs = sorted({env for side in comparison.sides for env in side.curves})
    figure = new_figure(4.4 * (len(envs) + 1), 3.6)
    *axes, last = figure.subplots(1, len(envs) + 1, squeeze=False)[0]
    for i, side in enumerate(comparison.sides):
        line = style(i) | {"linewidth": 2}
        for ax, env in zip(axes, envs):
            if curve := side.curves.get(env):
                ax.plot(curve["steps"], curve["iqm"], **line)
                ax.fill_between(
                    curve["steps"], curve["low"], curve["high"], color=line["color"], alpha=0.18, linewidth=0
                )
        last.step(comparison.heights, side.profile, where="post", label=side.name, **line)
    for ax, env in zip(axes, envs):
        ax.set_title(env, fontsize=11)
        dress(ax, "environment steps", "IQM of training returns, 95% interval")
    last.set_title("performance profile", fontsize=11)
    dress(last, "score", "share of runs above")
    last.legend(fontsize=9, framealpha=0.8, edgecolor="none")
    if out is not None:
        save(figure, out)
    return figure
