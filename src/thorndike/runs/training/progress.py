"""Progress on standard error: a live bar on a terminal or in a notebook; elsewhere, unless asked, messages alone."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def tell(text: str) -> None:
    """A line on standard error, where that is open: `print` would take standard output in its place."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


class Progress:
    """A bar with time left, steps/s and return; where there is no terminal but `wanted`, a line every tenth."""

    def __init__(self, run: Any, wanted: bool | None):
        self.run, self.next = run, 0.1
        self.bar: Any = None
        self.task: Any = None
        live = (sys.stderr is not None and sys.stderr.isatty()) or "ipykernel" in sys.modules
        self.silent = wanted is False or (wanted is None and not live)
        self.live = live and not self.silent

    def __enter__(self) -> Progress:
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[rate]}{task.fields[score]}"),
                console=Console(stderr=True),
            )
            name = f"{type(self.run.algorithm).__name__} on {self.run.info['environment']['id']}"
            self.task = self.bar.add_task(name, total=self.run.info["steps"], rate="", score="compiling")
            self.bar.start()
        return self

    def show(self, steps: int, per_second: float, returns: np.ndarray) -> None:
        """Where training is."""
        if self.silent:
            return
        rate = "" if np.isnan(per_second) else f"{per_second:,.0f} steps/s  "
        known = returns[~np.isnan(returns)]
        score = f"return {known.mean():.1f}" if known.size else "no episode yet"
        if known.size > 1:
            score += f" ({known.min():.1f} to {known.max():.1f})"
        if self.bar is not None:
            self.bar.update(self.task, completed=steps, rate=rate, score=score)
        elif steps / self.run.info["steps"] >= self.next:
            self.next = np.floor(10 * steps / self.run.info["steps"]) / 10 + 0.1
            tell(f"{steps:>12,} steps  {rate}{score}")

    def say(self, text: str, transient: bool = False) -> None:
        """A message; a transient one is for the bar alone."""
        if self.bar is None:
            if not transient:
                tell(text)
        elif transient:
            self.bar.update(self.task, score=text)
        else:
            self.bar.console.print(text, highlight=False)

    def __exit__(self, *exc: Any) -> None:
        if self.bar is not None:
            self.bar.stop()
