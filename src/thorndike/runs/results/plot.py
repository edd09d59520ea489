"""Learning curves, and curves of whatever else was logged."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from thorndike.errors import require
from thorndike.runs.results.curves import EVALUATION, FEW, RETURN, Axis, Curve, band, curves, mean, of_run, smoothed
from thorndike.runs.results.labels import labels as names_of
from thorndike.runs.results.labels import of_configurations
from thorndike.runs.storage.journal import Journal

INSIDE = 4  # lines whose legend still fits among them
WIDEST = 46  # characters of a line in the legend
GREY = "#4a5568"
DOTS = {"linewidth": 1.2, "marker": "o", "markersize": 3.5, "markerfacecolor": "white"}  # how evaluations are drawn
DOTTED = {"color": GREY, "linewidth": 1, "linestyle": (0, (1, 2))}  # how thresholds are


def plot(
    runs: Any,
    out: str | Path | None = None,
    *,
    y: str = RETURN,
    x: Axis = "steps",
    smooth: int = 1,
    threshold: float | Literal["auto"] | None = "auto",
    labels: Iterable[str] | None = None,
) -> Any:
    """Curves of one or more runs: the mean over seeds, with a band, one line for each configuration of a sweep.

    The band is the 95% bootstrap interval of the mean over seeds; of two seeds it is their range. Each environment has
    axes of its own, and so has what was learned from a dataset, whose steps are batches. Where a run was evaluated
    while it trained, those returns are a curve too.

    Args:
        runs: a run or its directory, or several.
        out: where to save the picture (.png, .svg, .pdf).
        y: which tag of the metrics; by default the mean return of training episodes.
        x: against "steps", "episodes" or "seconds" (of training, without compilation).
        smooth: a moving average over so many rows of the metrics; the curve without it is drawn faintly behind.
        threshold: a line across at that height; "auto": the `reward_threshold` of an environment that is registered
            with Gymnasium with one, for returns; None: no line.
        labels: what to call each of the runs; by default by what differs between them.

    Returns:
        A matplotlib figure; a notebook shows it.

    Raises:
        UnknownNameError: no run has logged `y`; names the tags that there are.
        ConfigError: nothing to draw, or an argument that cannot work.
        CheckpointError: there is no run, or its description is damaged.
    """
    from thorndike.figures import dress, save, style

    one = isinstance(runs, (str, Path, Journal)) or hasattr(runs, "journal")
    journals = [_journal(run) for run in ([runs] if one else runs)]
    whole = isinstance(smooth, int) and not isinstance(smooth, bool) and smooth > 0
    require(whole, f"smooth is a number of rows, at least 1, got {smooth!r}")
    found = curves(journals, y, x)
    for journal in [journal for journal, some in zip(journals, found) if not some]:
        warnings.warn(f"left out {journal.shell_path}: it has logged no value of {y} yet", stacklevel=2)
    lines, names = _named(journals, found, labels)
    styles = {name: style(i) for i, name in enumerate(dict.fromkeys(names))}
    evaluated = {(c.journal, c.configuration): c for j in journals if y == RETURN for c in of_run(j, EVALUATION, x)}
    panels = list(dict.fromkeys(curve.panel for curve in lines))
    heights = [reward_threshold(panel[0], y) if threshold == "auto" else threshold for panel in panels]

    entries = {name: _line(styles[name]) for name in styles} | _bands(lines)
    if evaluated:
        entries["evaluation while training"] = _line({"color": GREY} | DOTS)
    if any(height is not None for height in heights):
        entries["reward threshold" if threshold == "auto" else "threshold"] = _line(DOTTED)
    entries = {textwrap.fill(name, WIDEST): entry for name, entry in entries.items()}
    outside = len(styles) > INSIDE or len(panels) > 1
    figure, all_axes = _grid(len(panels), list(entries) if outside else [])
    for axes, panel, height in zip(all_axes, panels, heights):
        for curve, name in [(curve, name) for curve, name in zip(lines, names) if curve.panel == panel]:
            _draw(axes, curve, smooth, styles[name])
            if (other := evaluated.get((curve.journal, curve.configuration))) is not None:
                axes.plot(other.x, mean(other.y), **styles[name] | DOTS)
        if height is not None:
            _mark(axes, height)
        environment, offline = panel
        axes.set_title(f"{environment}, from a dataset" if offline else environment, fontsize=11)
        dress(axes, _along(x, offline), _up(y, offline))
    where = {"loc": "outside right upper", "frameon": False} if outside else {"framealpha": 0.8, "edgecolor": "none"}
    (figure if outside else all_axes[0]).legend(entries.values(), entries.keys(), fontsize=9, **where)
    if out is not None:
        save(figure, out)
    return figure


def _journal(run: Any) -> Journal:
    return Journal(run) if isinstance(run, (str, Path)) else getattr(run, "journal", run)


def _named(
    journals: list[Journal], found: list[list[Curve]], given: Iterable[str] | None
) -> tuple[list[Curve], list[str]]:
    """All curves, and what the legend calls them."""
    lines = [curve for some in found for curve in some]
    if given is None:
        names = names_of(lines)
    else:
        words = [given] if isinstance(given, str) else list(given)
        require(len(words) == len(journals), f"{len(words)} labels for {len(journals)} runs: give one for each run")
        names = [", ".join(filter(None, [w, t])) for w, some in zip(words, found) for t in of_configurations(some)]
    return lines, [f"{n} ({c.seeds} seeds)" if c.seeds > 1 else n for n, c in zip(names, lines)]


def _draw(axes: Any, curve: Curve, smooth: int, style: dict[str, Any]) -> None:
    """The mean over seeds with its band; behind it what was not smoothed."""
    y = smoothed(curve.y, smooth)
    if smooth > 1:
        axes.plot(curve.x, mean(curve.y), **style, linewidth=1, alpha=0.3)
    axes.plot(curve.x, mean(y), **style, linewidth=2, marker="o" if len(curve.x) == 1 else None)
    if curve.seeds > 1:
        axes.fill_between(curve.x, *band(y), color=style["color"], alpha=0.18, linewidth=0)


def _bands(lines: list[Curve]) -> dict[str, Any]:
    """Entries of the legend that say what the bands are."""
    from matplotlib.patches import Patch

    grey = Patch(color=GREY, alpha=0.25, linewidth=0)
    several = {"95% bootstrap interval over seeds": grey} if any(c.seeds >= FEW for c in lines) else {}
    pair = {"range of both seeds": grey} if any(1 < c.seeds < FEW for c in lines) else {}
    return several | pair


def _line(style: dict[str, Any]) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **{"linewidth": 2, **style})


def _grid(panels: int, outside: list[str]) -> tuple[Any, list[Any]]:
    """A figure with so many axes, at most three side by side, and room for a legend with these entries beside them."""
    from thorndike.figures import new_figure

    columns, rows = min(3, panels), -(-panels // 3)
    width, height = (7.0, 4.2) if panels == 1 else (4.4 * columns, 3.4 * rows)
    texts = [line for name in outside for line in name.splitlines()]
    width += 0.7 + 0.075 * max(map(len, texts)) if texts else 0.0
    figure = new_figure(width, max(height, 0.3 + 0.2 * len(texts)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[panels:]:
        unused.remove()
    return figure, list(axes[:panels])


def _mark(axes: Any, height: float) -> None:
    """A line across, with its height written on it."""
    axes.axhline(height, **DOTTED, zorder=1)
    at = {"xy": (0.995, height), "xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    paper = {"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.7, "linewidth": 0}
    axes.annotate(f"{height:g}", **at, xytext=(0, 3), ha="right", va="bottom", fontsize=8, color=GREY, bbox=paper)


def _along(x: Axis, offline: bool) -> str:
    steps = "batches" if offline else "environment steps"
    return {"steps": steps, "episodes": "episodes", "seconds": "seconds of training"}[x]


def _up(y: str, offline: bool) -> str:
    if y != RETURN:
        return y
    return "mean return of each evaluation" if offline else "mean return of 100 episodes"


def reward_threshold(environment: str, y: str) -> float | None:
    """The return at which the environment counts as solved, as Gymnasium's registry has it for its id."""
    if y not in (RETURN, EVALUATION):
        return None
    import gymnasium

    spec = gymnasium.registry.get(environment.removeprefix("gymnasium/").removeprefix("thorndike/").rpartition(":")[2])
    return None if spec is None or spec.reward_threshold is None else float(spec.reward_threshold)
