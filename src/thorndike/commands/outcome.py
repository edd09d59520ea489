"""What is said after training, and where else its metrics go."""

from __future__ import annotations

import sys
from json import dumps
from typing import Any


def report(run: Any, as_json: bool) -> None:
    """Say what came of a run and what to do next, or one line of JSON."""
    from thorndike.runs.results.games import playable
    from thorndike.runs.results.video import filmable

    status, page = run.status, _page(run)
    if as_json:
        keys = ("steps", "seconds", "steps_per_second", "compile_seconds", "return_mean")
        print(dumps({"run": str(run.path), **{key: status[key] for key in keys}}))
        return
    known = [x for x in status["return_mean"] if x is not None]
    score = ", ".join(f"{x:.1f}" for x in known) or "no episode ended"
    print(f"run      {run.journal.shell_path}")
    if "stopped" in status:
        print(f"stopped  at {status['steps']:,} of {run.info['steps']:,} steps; {status['stopped']}")
    games = run.spec.players > 1
    what = "of the last evaluation's episodes" if run.info.get("dataset") else "of the last 100 training episodes"
    what = "of the last 100 games against itself" if games else what
    recorded = getattr(run.env, "recorded", False)  # then nothing was played
    if not recorded:
        print(f"return   {score}  (mean {what}{', per seed' if len(known) > 1 else ''})")
    print(f"time     {status['seconds']:.1f} s, and {status['compile_seconds']:.1f} s of compilation")
    see = ["play"] * playable(run.env) if games else ["watch"] * filmable(run.env)
    see = [] if recorded else ["evaluate", *see]
    if page:
        print(f"page     {page}  (with a film and what the agent goes by: thorndike report {run.shell})")
    steps = [f"thorndike {command} {run.shell}" for command in see]
    print("next     " + "\n         ".join([*steps, f"thorndike plot {run.journal.shell_path}"]))


def _page(run: Any) -> str:
    """The path of a page of what the run logged; "" where it cannot be written, which no training should fail for."""
    from thorndike.runs.results.report import report as written
    from thorndike.text import near

    try:
        return near(written(run, run.path / "report.html"))
    except Exception as error:  # the run is whole, whatever is wrong with its page
        print(f"warning: there is no report.html: {error}", file=sys.stderr)
        return ""


def sinks(names: tuple[str, ...]) -> list[Any]:
    """What logs to W&B and the like."""
    from thorndike.sinks import named

    return [named(name) for name in dict.fromkeys(names)]
