"""A page of one or more runs in one file: curves, settings, evaluation, signs of trouble, metrics, versions."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import require
from thorndike.files import replace
from thorndike.ops.summary import FEW
from thorndike.pages import Html, chart, legend, page, table, text
from thorndike.runs.results.curves import EVALUATION, RETURN, Curve, band, mean, of_run
from thorndike.runs.results.doctor import diagnose
from thorndike.runs.results.labels import labels
from thorndike.runs.storage.journal import Journal
from thorndike.settings import spell
from thorndike.text import duration, score

POINTS = 400  # of a curve; more are not seen


def report(runs: Any, out: str | Path, evaluations: dict[Path, Any] | None = None) -> Path:
    """Write a page about one or more runs; nothing but what they logged is needed.

    Args:
        runs: a run or its directory, or several.
        out: the file.
        evaluations: `Evaluation`s by the run's path, which are shown too.
    """
    one = isinstance(runs, (str, Path, Journal)) or hasattr(runs, "journal")
    journals = [
        run if isinstance(run, Journal) else getattr(run, "journal", None) or Journal(run)
        for run in ([runs] if one else runs)
    ]
    require(bool(journals), "no run to report: give at least one")
    out = Path(out).expanduser()
    require(not out.is_dir(), f"{out} is a directory: name a file in it, such as {out / 'report.html'}")
    curves = [curve for journal in journals for curve in of_run(journal, RETURN, "steps")]
    sections = [("Learning", _curves(curves))]
    for journal in journals:
        head = journal.path.name if len(journals) > 1 else "The run"
        sections.append((head, _about(journal, (evaluations or {}).get(journal.path))))
    title = f"{journals[0].name} on {journals[0].environment['id']}" if len(journals) == 1 else f"{len(journals)} runs"
    out.parent.mkdir(parents=True, exist_ok=True)
    replace(out, [page(title, sections).encode()])
    return out


def _curves(curves: list[Curve]) -> list[Html]:
    """The mean return over seeds with its band, by environment, and evaluations while training."""
    if not curves:
        return [text("No episode has ended yet.")]
    parts = []
    names = labels(curves)
    for panel in dict.fromkeys(curve.panel for curve in curves):
        mine = [(c, n) for c, n in zip(curves, names) if c.panel == panel]
        parts.append(chart(f"mean return of 100 training episodes, {panel[0]}", [_line(c) for c, _ in mine]))
        tested = {
            (c.journal, c.configuration): c
            for j in {c.journal for c, _ in mine}
            for c in of_run(j, EVALUATION, "steps")
        }
        if tested:
            found = [tested.get((c.journal, c.configuration)) for c, _ in mine]
            lines = [_line(c) if c is not None else ([], [], None, None) for c in found]
            parts.append(chart(f"mean return of evaluations while training, {panel[0]}", lines))
        parts.append(legend([f"{n} ({c.seeds} seeds)" if c.seeds > 1 else n for c, n in mine]))
    return [*parts, text("Bands are 95% bootstrap intervals of the mean over seeds; of two seeds, their range.")]


def _line(curve: Curve) -> tuple[Any, Any, Any, Any]:
    at = np.unique(np.linspace(0, len(curve.x) - 1, POINTS).astype(int))
    x, y = curve.x[at], curve.y[at]
    low, high = band(y) if curve.seeds > 1 else (None, None)
    return x, mean(y), low, high


def _about(journal: Journal, evaluation: Any) -> list[Html]:
    status, info = journal.status, journal.info
    known = [x for x in status.get("return_mean") or [] if x is not None]
    few = f", fewer than {FEW} seeds" if 1 < len(known) < FEW else ""
    rows: list[tuple[str, Any]] = [
        ("directory", journal.shell_path),
        ("algorithm", journal.name),
        ("environment", journal.environment["id"]),
        ("settings", f"{journal.base or 'own class'}{'; ' * bool(journal.changed)}{spell(journal.changed)}"),
        ("seeds", f"{journal.seed} to {journal.seed + journal.seeds - 1}" if journal.seeds > 1 else journal.seed),
        ("state", f"{status['state']} at {status['steps']:,} of {info['steps']:,} steps"),
        ("time", f"{duration(status['seconds'])} of training"),
        ("return", (", ".join(map(score, known)) or "no episode ended") + few),
    ]
    if journal.swept:
        rows.insert(4, ("sweep", spell({name: tuple(values) for name, values in journal.swept.items()})))
    best = status.get("best")
    if isinstance(best, dict) and isinstance(best.get("mean_reward"), (int, float)):
        rows.append(("best evaluation", f"{score(best['mean_reward'])} at {best.get('step', 0):,} steps"))
    rows.append(("go on", journal.resume_with))
    parts = [table(rows)]
    if evaluation is not None:
        parts += [text("Evaluation", "h3"), text(evaluation)]
        parts.append(table([(n, dumps(v)) for n, v in evaluation.to_json().items()]))
    parts += [text("Signs of trouble", "h3"), text(diagnose(journal), "pre")]
    parts += _metrics(journal)
    versions = info.get("versions")
    if isinstance(versions, dict) and versions:
        parts += [text("Versions", "h3"), table(sorted(versions.items()))]
    return parts


def _metrics(journal: Journal) -> list[Html]:
    """The last value of all that was logged, and its curve."""
    rows, charts = [], []
    for name, values in sorted(journal.metrics().items()):
        if name == "steps" or not np.isfinite(values).any():
            continue
        average = mean(values)
        last = average[~np.isnan(values).all(1)][-1]
        rows.append((name, f"{last:.4g}", f"{np.nanmin(values):.4g}", f"{np.nanmax(values):.4g}"))
        if name.startswith("train/"):
            found = of_run(journal, name, "steps")
            charts.append(chart(name, [_line(curve) for curve in found]))
    if not rows:
        return []
    return [text("Metrics", "h3"), table(rows, ("metric", "last", "least", "most")), *charts]
