"""The table of learning, in Markdown and in HTML: ours with its interval, theirs with its source, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thorndike.bench.measures import MEASURES
from thorndike.bench.row import Row
from thorndike.bench.runner import Record, done
from thorndike.bench.verdict import MET, SHORT, UNKNOWN, judge
from thorndike.files import replace
from thorndike.ops.summary import FEW
from thorndike.pages import page, table, text
from thorndike.text import duration

HEAD = ("algorithm", "environment", "measure", "steps", "seeds", "ours", "theirs, source", "asked", "verdict", "CPU")
NOT_RUN, FAILED = "not run", "failed"
ABOUT = (
    "Ours is the interquartile mean over seeds, each of which is one number, with a 95% bootstrap interval over seeds "
    "in brackets; below five seeds that is narrower than the truth. Numbers after it are the seeds'. Asked is the "
    "threshold, or theirs less a tolerance."
)


def line(row: Row, found: dict[str, Record]) -> tuple[Any, ...]:
    """The cells of a row."""
    measure = MEASURES[row.measure]
    env = row.env + "".join(f", {name} {value}" for name, value in row.env_kwargs.items())
    fields = "".join(f", {name} {value}" for name, value in row.fields.items())
    bar = row.bar(measure.lower)
    asked = "" if bar is None else f"{'≤' if measure.lower else '≥'} {number(bar)}"
    begins = (row.algorithm + fields, env, measure.what, f"{row.planned:,}", row.seeds)
    held = (theirs(row), asked)
    record = found.get(row.name)
    if record is None or not done(row, found):
        why = f"{FAILED}: {record['error']}" if record and "error" in record else NOT_RUN
        return (*begins, "", *held, why, "")
    verdict = judge(row, record["scores"])
    return (*begins, ours(verdict, record["scores"]), *held, verdict.said, duration(record["cpu"]))


def ours(verdict: Any, scores: Sequence[float | None]) -> str:
    """ "492.1 [480.0, 500.0] of 3 runs, fewer than 5: 480, 500, 496"."""
    lost = f"; {verdict.diverged} of {verdict.runs} diverged" if verdict.diverged else ""
    if verdict.diverged == verdict.runs:
        return f"all {verdict.runs} runs diverged"
    each = ", ".join("-" if x is None else number(x) for x in scores)
    one = verdict.runs - verdict.diverged == 1
    interval = "" if one else f" [{number(verdict.low)}, {number(verdict.high)}]"
    few = f" of {verdict.runs} run{'s' * (verdict.runs > 1)}, fewer than {FEW}" if verdict.few else ""
    return f"{number(verdict.ours)}{interval}{few}{'' if one else f': {each}'}{lost}"


def theirs(row: Row) -> str:
    """ "481.2 (500,000 steps, 3 seeds), CleanRL"."""
    at = f" ({row.at})" if row.at else ""
    said = "none published" if row.theirs is None else number(row.theirs) + at
    differs = f"; another task: {row.differs}" if row.differs else ""
    return f"{said}{differs}; {row.source}" if row.source else said + differs


def number(value: float) -> str:
    """Four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def summary(lines: Sequence[Sequence[Any]]) -> str:
    """How many rows came to what."""
    verdicts = [str(cells[8]).partition(":")[0] for cells in lines]
    counted = [(verdicts.count(said), said) for said in (MET, SHORT, UNKNOWN, NOT_RUN, FAILED)]
    return f"{len(lines)} rows: " + ", ".join(f"{n} {said}" for n, said in counted if n)


def markdown(title: str, lines: Sequence[Sequence[Any]], without: dict[str, str]) -> str:
    """The whole page in Markdown."""
    rows = [HEAD, ["---"] * len(HEAD), *lines]
    cells = ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    missing = [f"- `{name}`: {why}" for name, why in without.items()]
    tail = ["", "Algorithms without a row:", "", *missing] if missing else []
    return "\n".join([f"# {title}", "", f"{summary(lines)}. {ABOUT}", "", *cells, *tail, ""])


def html(title: str, lines: Sequence[Sequence[Any]], without: dict[str, str]) -> str:
    """The same in HTML."""
    parts = [text(f"{summary(lines)}."), text(ABOUT), table(lines, HEAD)]
    sections = [("Rows", parts)]
    if without:
        sections.append(("Algorithms without a row", [table(without.items())]))
    return page(title, sections)


def write(suite: str, rows: Sequence[Row], found: dict[str, Record], without: dict[str, str], out: Path) -> str:
    """Write `learning.md` and `learning.html` into `out`; answers with the summary."""
    lines = [line(row, found) for row in rows]
    title = f"Learning, the {suite} suite"
    replace(out / "learning.md", [markdown(title, lines, without).encode()])
    replace(out / "learning.html", [html(title, lines, without).encode()])
    return summary(lines)
