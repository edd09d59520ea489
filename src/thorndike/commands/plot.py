"""`thorndike plot`: curves of one or more runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from thorndike.commands.opening import parse, require_run
from thorndike.errors import ConfigError

RETURN = "rollout/ep_rew_mean"  # what is drawn where nothing else is said


def plot(
    runs: tuple[Path, ...],
    /,
    out: Path | None = None,
    y: str = RETURN,
    x: Literal["steps", "episodes", "seconds"] = "steps",
    smooth: int = 1,
    threshold: float | Literal["auto", "none"] = "auto",
    labels: tuple[str, ...] = (),
) -> None:
    """Draw curves of one or more runs into one picture. Nothing but what the runs logged is needed for it.

    Args:
        runs: the runs' directories
        out: the picture, .png, .svg or .pdf; by default curve.png in the first run's directory, or one named after y
        y: which of the metrics, such as train/entropy
        x: the horizontal axis
        smooth: a moving average over so many rows of the metrics
        threshold: a line at this height; by default the reward at which Gymnasium takes the environment for solved
        labels: what to call each run; by default what differs between them
    """
    if not runs:
        raise ConfigError("name at least one run: thorndike plot RUN...")
    from thorndike.runs.results.plot import plot as draw

    found = [run for run in runs if (run / "run.json").is_file()] or list(runs)
    for run in sorted(set(runs) - set(found)):
        print(f"left out {run}: no run.json in it", file=sys.stderr)
    require_run(found[0])
    out = out or found[0] / ("curve.png" if y == RETURN else f"{y.replace('/', '_')}.png")
    height = None if threshold == "none" else threshold
    draw(found, out, y=y, x=x, smooth=smooth, threshold=height, labels=labels or None)
    print(out)


def main(words: list[str]) -> None:
    """The command."""
    parse(plot, words)
