"""Learning curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import ConfigError

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#4a5568")


def plot(runs: Iterable[Any], out: str | Path | None = None) -> Any:
    """Return against steps, one line a run: its mean over seeds, with their range shaded.

    Args:
        runs: `Run` objects, or their directories.
        out: where to save the picture (.png, .svg, .pdf).

    Returns:
        A matplotlib figure; a notebook shows it.
    """
    from matplotlib.figure import Figure

    from thorndike.runs.results.run import Run

    runs = [Run(run) if isinstance(run, (str, Path)) else run for run in runs]
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    drawn = 0
    for colour, run in zip(COLOURS * len(runs), runs):
        columns = run.metrics()
        if "rollout/ep_rew_mean" not in columns:
            continue
        returns, steps = columns["rollout/ep_rew_mean"], columns["steps"]
        known = ~np.isnan(returns).all(1)
        steps, returns = steps[known], returns[known]
        name = f"{type(run.algorithm).__name__} on {run.info['environment']['id']}"
        label = name if returns.shape[1] == 1 else f"{name}, mean and range of {returns.shape[1]} runs"
        axes.plot(steps, np.nanmean(returns, 1), color=colour, label=label, linewidth=2)
        if returns.shape[1] > 1:
            axes.fill_between(steps, np.nanmin(returns, 1), np.nanmax(returns, 1), color=colour, alpha=0.2, linewidth=0)
        drawn += 1
    if not drawn:
        where = ", ".join(str(run.path) for run in runs) or "no run: give at least one"
        raise ConfigError(f"nothing to plot yet: no episode has ended in {where}")
    offline = sorted({bool(run.info.get("dataset")) for run in runs})
    of = " or ".join("each evaluation" if kind else "the last 100 episodes" for kind in offline)
    dress(axes, f"return, mean of {of}", "batches" if all(offline) else "environment steps")
    axes.legend(frameon=False)
    if out is not None:
        save(figure, out)
    return figure


def curve(steps: Sequence[int], values: Sequence[float], label: str) -> Any:
    """One quantity against steps, as a matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, values, color=COLOURS[0], marker="o", linewidth=2)
    dress(axes, label)
    return figure


def dress(axes: Any, label: str, steps: str = "environment steps") -> None:
    """Labels, a grid, and no more frame than is needed."""
    axes.set(xlabel=steps, ylabel=label)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g}M" if x >= 1e6 else f"{x / 1e3:g}k" if x else "0")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Any, out: str | Path) -> None:
    """Write a figure, making its folder; raises `ConfigError` for a format that matplotlib does not write."""
    out = Path(out).expanduser()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(out, dpi=150)
    except ValueError as error:
        raise ConfigError(f"cannot write {out}: {error}") from None
