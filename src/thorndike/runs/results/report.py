"""A page of one or more runs in one file: curves, what differs, and of each run all that it logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import require
from thorndike.files import replace
from thorndike.pages import Html, chart, legend, page, table, text
from thorndike.runs.results.curves import EVALUATION, RETURN, Curve, band, mean, of_run
from thorndike.runs.results.labels import labels
from thorndike.runs.results.sections import about
from thorndike.runs.storage.journal import Journal
from thorndike.settings import differing, flat, spell

Table = dict[str, np.ndarray]
POINTS = 400  # of a curve; more are not seen


def report(
    runs: Any,
    out: str | Path,
    evaluations: dict[Path, Any] | None = None,
    shown: dict[Path, list[Html]] | None = None,
) -> Path:
    """Write a page about one or more runs; nothing but what they logged is needed.

    Args:
        runs: a run or its directory, or several.
        out: the file.
        evaluations: `Evaluation`s by the run's path, which are shown too.
        shown: what else is shown of a run, by its path, such as what `thorndike.runs.results.shown` makes.
    """
    one = isinstance(runs, (str, Path, Journal)) or hasattr(runs, "journal")
    journals = [
        run if isinstance(run, Journal) else getattr(run, "journal", None) or Journal(run)
        for run in ([runs] if one else runs)
    ]
    require(bool(journals), "no run to report: give at least one")
    out = Path(out).expanduser()
    require(not out.is_dir(), f"{out} is a directory: name a file in it, such as {out / 'report.html'}")
    points = max(40, POINTS // len(journals))
    draw = lambda curve: _line(curve, points)  # noqa: E731
    tables = {journal.path: journal.metrics() for journal in journals}
    sections = [("Learning", _curves(journals, tables, draw))]
    if len(journals) > 1:
        sections.append(("What differs", _differing(journals)))
    for journal in journals:
        head = journal.path.name if len(journals) > 1 else "The run"
        more = (shown or {}).get(journal.path, [])
        sections.append((head, about(journal, tables[journal.path], (evaluations or {}).get(journal.path), more, draw)))
    title = f"{journals[0].name} on {journals[0].environment['id']}" if len(journals) == 1 else f"{len(journals)} runs"
    out.parent.mkdir(parents=True, exist_ok=True)
    replace(out, [page(title, sections).encode()])
    return out


def _curves(journals: list[Journal], tables: dict[Path, Table], draw: Any) -> list[Html]:
    """The mean return over seeds with its band, by environment, and evaluations while training."""
    curves = [curve for journal in journals for curve in of_run(journal, RETURN, "steps", tables[journal.path])]
    if not curves:
        return [text("No returns of episodes are logged yet.")]
    parts = []
    names = labels(curves)
    for panel in dict.fromkeys(curve.panel for curve in curves):
        mine = [(c, n) for c, n in zip(curves, names) if c.panel == panel]
        parts.append(chart(f"mean return of 100 training episodes, {panel[0]}", [draw(c) for c, _ in mine]))
        tested = {
            (c.journal, c.configuration): c
            for j in {c.journal for c, _ in mine}
            for c in of_run(j, EVALUATION, "steps", tables[j.path])
        }
        if tested:
            found = [tested.get((c.journal, c.configuration)) for c, _ in mine]
            lines = [draw(c) if c is not None else ([], [], None, None) for c in found]
            parts.append(chart(f"mean return of evaluations while training, {panel[0]}", lines))
        parts.append(legend([f"{n} ({c.seeds} seeds)" if c.seeds > 1 else n for c, n in mine]))
    return [*parts, text("Bands are 95% bootstrap intervals of the mean over seeds; of two seeds, their range.")]


def _line(curve: Curve, points: int) -> tuple[Any, Any, Any, Any]:
    at = np.unique(np.linspace(0, len(curve.x) - 1, points).astype(int))
    x, y = curve.x[at], curve.y[at]
    low, high = band(y) if curve.seeds > 1 else (None, None)
    return x, mean(y), low, high


def _differing(journals: list[Journal]) -> list[Html]:
    """What each run is of, and the settings that are not the same in all runs of its algorithm."""
    rows = []
    for kind in dict.fromkeys(journal.settings["type"] for journal in journals):
        mine = [journal for journal in journals if journal.settings["type"] == kind]
        settings = [flat(j.settings) | {"steps": j.info["steps"], "seeds": j.seeds, "seed": j.seed} for j in mine]
        names = differing(settings)
        for journal, own in zip(mine, settings):
            told = spell({name: own[name] for name in names}) or "-"
            rows.append((journal.path.name, journal.name, journal.environment["id"], told))
    return [table(rows, ("run", "algorithm", "environment", "settings that differ between runs of an algorithm"))]
