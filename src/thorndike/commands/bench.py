"""`thorndike bench`: what is learned, beside what others published."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, Literal

from thorndike.commands.opening import parse
from thorndike.errors import ThorndikeError, require


def bench(
    what: Literal["learning"],
    /,
    suite: Literal["quick", "nightly", "full"] = "quick",
    only: tuple[str, ...] = (),
    out: Path | None = None,
    workers: int | None = None,
) -> None:
    """Train and measure a suite of tasks, and write a table of ours beside published numbers, learning.md and .html.

    What is done is not run again: the same command goes on after an interruption.

    Args:
        what: learning
        suite: quick has a small task for nearly every algorithm, nightly more seeds and tasks of minutes, full MinAtar
            and MuJoCo
        only: rows of the suite, by algorithm, environment or both (dqn/CartPole-v1), in the order to run them
        out: the directory, by default runs/bench-SUITE; rows.jsonl there has a line for each row that is done
        workers: processes side by side; by default one for each core
    """
    from thorndike.bench import runner, table
    from thorndike.bench.row import chosen
    from thorndike.bench.rows import ROWS, WITHOUT
    from thorndike.envs.host.batch import cores

    require(workers is None or workers > 0, f"workers must be positive, got {workers}")
    rows = chosen(ROWS[suite], only)
    out = (out or Path("runs") / f"bench-{suite}").expanduser()
    without = WITHOUT if suite == "quick" and not only else {}
    ended: list[str] = []

    def told(name: str, record: dict[str, Any]) -> None:
        found = runner.records(out)
        row = next(row for row in rows if row.name == name)
        cells = table.line(row, found)
        ended.append(str(cells[8]))
        print(f"{name}: {' '.join(filter(None, (cells[5], cells[7], cells[8], cells[9])))}", flush=True)
        table.write(suite, rows, found, without, out)

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: what is under way is ended first
    try:
        runner.run(suite, rows, out, workers or cores(), told)
    finally:
        signal.signal(signal.SIGTERM, before)
    print(table.write(suite, rows, runner.records(out), without, out))
    print(out / "learning.md")
    failed = sum(said.startswith(table.FAILED) for said in ended)
    if failed:
        raise ThorndikeError(
            f"{failed} rows could not be run; the table says why, and the same command tries them again"
        )


def main(words: list[str]) -> None:
    """The command."""
    parse(bench, words)
