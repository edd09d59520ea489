"""The parts of a run's page: what it is, how it went, what is unusual, and how to do it again. Of its logs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from json import dumps
from typing import Any

import numpy as np

from thorndike.errors import ConfigError, ThorndikeError
from thorndike.ops.summary import FEW
from thorndike.pages import Html, chart, dots, html, table, text
from thorndike.runs.results.again import again
from thorndike.runs.results.curves import RETURN, Curve, mean, of_run
from thorndike.runs.results.doctor import diagnose
from thorndike.runs.results.usual import readings
from thorndike.runs.storage.journal import Journal
from thorndike.settings import flat, spell
from thorndike.text import duration, score

Draw = Callable[[Curve], tuple[Any, Any, Any, Any]]  # x, y, and a band's low and high
AGENTS, EPISODES = 12, 50  # whose returns are drawn, and how many of each
EVERYWHERE = ("steps", RETURN, "eval/mean_reward")  # which have curves of their own


def about(
    journal: Journal, logged: dict[str, np.ndarray], evaluation: Any, shown: list[Html], draw: Draw
) -> list[Html]:
    """All of one run.

    Args:
        journal: its directory.
        logged: its metrics.
        evaluation: an `Evaluation`, or None.
        shown: more, which comes first.
        draw: a curve as `pages.chart` takes it.
    """
    return [
        _facts(journal),
        *shown,
        *(_evaluated(evaluation) if evaluation is not None else _played(journal)),
        text("Signs of trouble", "h3"),
        text(diagnose(journal), "pre"),
        *_health(logged, journal.settings),
        *_settings(journal),
        *_time(journal),
        *_metrics(journal, logged, draw),
        *_again(journal),
    ]


def _facts(journal: Journal) -> Html:
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
        rows.append(("best evaluation", f"{score(best['mean_reward'])} at {best.get('steps', 0):,} steps"))
    rows.append(("begun", info.get("made", "-")))
    rows.append(("go on", journal.resume_with))
    return table(rows)


def _names(members: Iterable[dict[str, Any]]) -> list[str]:
    return [spell(member).replace("seed=", "seed ") for member in members]


def _more(members: int) -> list[Html]:
    return [text(f"{members - AGENTS} more agents are not drawn.")] if members > AGENTS else []


def _evaluated(evaluation: Any) -> list[Html]:
    names = _names(evaluation.members) or [f"agent {i}" for i in range(len(evaluation.returns))]
    rows = list(zip(names, evaluation.returns))
    title = f"returns of {evaluation.returns.shape[1]} episodes of each agent; lines are means"
    return [
        text("Evaluation", "h3"),
        text(evaluation),
        dots(title, rows[:AGENTS]),
        *_more(len(rows)),
        table([(n, dumps(v)) for n, v in evaluation.to_json().items()]),
    ]


def _played(journal: Journal) -> list[Html]:
    """The last training episodes of each agent, where nobody was evaluated."""
    found = journal.episodes()
    if not len(found["return"]):
        return []
    names = _names(journal.members())
    rows = [(name, found["return"][found["member"] == i][-EPISODES:]) for i, name in enumerate(names[:AGENTS])]
    title = f"returns of the last {EPISODES} training episodes of each agent, as it explored; lines are means"
    return [text("Episodes", "h3"), dots(title, rows), *_more(len(names))]


def _health(logged: dict[str, np.ndarray], settings: dict[str, Any]) -> list[Html]:
    """Metrics beside their usual ranges."""
    rows = []
    for found in readings(logged, settings):
        agents, away = int(np.isfinite(found.last).sum()), int(found.outside.sum())
        word = "within" if not away else "outside" if agents == 1 else f"outside in {away} of {agents} agents"
        shown = Html(f'<b class="away">{html(word)}</b>') if away else word
        rows.append((found.tag, found.says, f"{np.nanmedian(found.last):.4g}", _range(found.low, found.high), shown))
    if not rows:
        return []
    words = "Medians of the last five rows. Ranges are rules of thumb: outside of one is a reason to look."
    head = ("metric", "what it says", "value", "usual range", "")
    return [text("Health", "h3"), table(rows, head, "words"), text(words)]


def _range(lows: np.ndarray, highs: np.ndarray) -> str:
    """The widest of all agents' ranges."""
    low, high = float(np.nanmin(lows)), float(np.nanmax(highs))
    if np.isfinite(low) and np.isfinite(high):
        return f"above 0, to {high:.3g}" if 0 < low < 1e-9 else f"{low:.3g} to {high:.3g}"
    return f"from {low:.3g}" if np.isfinite(low) else f"up to {high:.3g}" if np.isfinite(high) else "any"


def _settings(journal: Journal) -> list[Html]:
    """What differs from the preset or the defaults, and below it all others."""
    settings = flat(journal.settings)
    usual = _usual(journal)
    rows = [(name, _cell(value), _cell(usual.get(name, "-"))) for name, value in journal.changed.items()]
    base = journal.base or "defaults"
    parts = [text("Settings", "h3")]
    parts.append(
        table(rows, ("setting", "here", f"in the {base}"), "words")
        if rows
        else text(f"All settings are those of the {base}.")
    )
    inner = table([(name, _cell(value)) for name, value in settings.items()])
    return [*parts, Html(f"<details><summary>all {len(settings)} settings</summary>{inner}</details>")]


def _cell(value: Any) -> str:
    return "none" if value is None else dumps(value) if isinstance(value, dict) else spell({"": value})[1:]


def _usual(journal: Journal) -> dict[str, Any]:
    """The flat settings of the preset or the defaults, where the package knows the class."""
    from thorndike.configuration import to_json
    from thorndike.presets import preset

    try:
        cls = _class_of(journal)
        base = preset(cls, journal.environment["id"]) if journal.base == "preset" else cls()
        return flat(to_json(base))
    except (ThorndikeError, TypeError, ValueError):
        return {}


def _class_of(journal: Journal) -> Any:
    from thorndike.algorithms import algorithm_class

    if journal.own_types:
        raise ConfigError("a class of one's own has defaults that only it knows")
    return algorithm_class(journal.name)


def _time(journal: Journal) -> list[Html]:
    """Compilation and steps."""
    status = journal.status
    parts = {"compilation": status.get("compile_seconds"), "steps and learning": status["seconds"]}
    known = {name: x for name, x in parts.items() if isinstance(x, (int, float))}
    total = sum(known.values()) or 1.0
    rows = [(name, f"{seconds:.1f} s", f"{seconds / total:.0%}") for name, seconds in known.items()]
    rate = status.get("steps_per_second")
    said = [text(f"{rate:,.0f} environment steps a second, of all agents together.")] if rate else []
    note = text("Evaluations and checkpoints are not in it, nor what earlier parts of a resumed run compiled.")
    return [text("Time", "h3"), table(rows, kind="numbers"), *said, note]


def _metrics(journal: Journal, logged: dict[str, np.ndarray], draw: Draw) -> list[Html]:
    """The last value of all that was logged, and its curve."""
    rows, charts = [], []
    for name, values in sorted(logged.items()):
        if name == "steps" or not np.isfinite(values).any():
            continue
        average = mean(values)
        last = average[~np.isnan(values).all(1)][-1]
        rows.append((name, f"{last:.4g}", f"{np.nanmin(values):.4g}", f"{np.nanmax(values):.4g}"))
        if name.startswith(("train/", "rollout/")) and name not in EVERYWHERE:
            found = of_run(journal, name, "steps", logged)
            charts.append(chart(name, [draw(curve) for curve in found]))
    if not rows:
        return []
    return [text("Metrics", "h3"), table(rows, ("metric", "last", "least", "most"), "numbers"), *charts]


def _again(journal: Journal) -> list[Html]:
    """The command that trains it again, and with which versions it was trained."""
    try:
        how = text(again(journal), "pre")
    except ConfigError as reason:
        how = text(f"No command line trains it again: {reason}.")
    parts = [text("Once more", "h3"), how]
    versions = journal.info.get("versions")
    if isinstance(versions, dict) and versions:
        parts.append(table(sorted(versions.items())))
    return parts
