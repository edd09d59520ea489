"""Progress: a live bar on a terminal, a line that updates itself in a notebook, some lines in scripts and logs."""

from __future__ import annotations

import html
import math
import sys
import time
from typing import Any

import numpy as np

from thorndike.text import duration, score

TENTH = 0.1  # of the steps, after which a log has another line
SECONDS = 30.0  # after which it has one earlier
REDRAW = 0.5  # seconds between two updates of a notebook's line
BAR = 10  # characters that the terminal's bar has at least


def tell(text: str) -> None:
    """A line on standard error, where that is open: `print` would take standard output in its place."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


class Progress:
    """Shows where training is: steps, time left, return and rate. The loop calls `show` after each chunk of work."""

    def __init__(self, run: Any, wanted: bool | None):
        """`wanted` is False for silence; warnings and what else has to be said is said nevertheless."""
        name = f"{type(run.algorithm).__name__} on {run.info['environment']['id']}"
        self.total, self.runs = run.info["steps"], run.runs
        terminal = sys.stderr is not None and sys.stderr.isatty()
        kind = Silent if wanted is False else Notebook if in_notebook() else Terminal if terminal else Log
        self.view: Silent = kind(name, self.total, run.journal.shell_path)
        self.began: tuple[float, int] | None = None  # when `show` was first called, and at which step

    def __enter__(self) -> Progress:
        self.view.start()
        return self

    def show(self, steps: int, per_second: float, returns: np.ndarray) -> None:
        """Where training is: steps of each run, the steps of all runs per second, and their mean returns [R]."""
        now = time.monotonic()
        self.began = self.began or (now, steps)
        since, done = now - self.began[0], steps - self.began[1]
        pace = done / since if done and since else per_second / self.runs
        known = returns[~np.isnan(returns)]
        spread = f" ({score(known.min())} to {score(known.max())})" if known.size > 1 else ""
        self.view.show(
            steps,
            [
                f"left {duration((self.total - steps) / pace)}" if pace > 0 and steps < self.total else "",
                f"return {score(known.mean())}{spread}" if known.size else "no episode has ended",
                "" if math.isnan(per_second) else f"{per_second:,.0f} steps/s",
            ],
        )

    def say(self, text: str, transient: bool = False) -> None:
        """A message; a transient one is for what is redrawn alone."""
        self.view.say(text, transient)

    def __exit__(self, *exc: Any) -> None:
        self.view.stop()


class Silent:
    """Shows nothing. What shows something has these methods too."""

    def __init__(self, name: str, total: int, path: str):
        self.name, self.total, self.path = name, total, path

    def start(self) -> None:
        """Training is about to begin."""

    def show(self, steps: int, facts: list[str]) -> None:
        """Where it is; `facts` are short texts, the most important first."""

    def say(self, text: str, transient: bool) -> None:
        """A message."""
        if not transient:
            tell(text)

    def stop(self) -> None:
        """It has ended, or has been stopped."""


class Log(Silent):
    """Lines on standard error: at the beginning, after a tenth of the steps or half a minute, and at the end."""

    def start(self) -> None:
        """Say what is trained, and where."""
        tell(f"training {self.name} for {self.total:,} steps in {self.path}")
        self.told, self.last = (time.monotonic(), 0.0), ""

    def show(self, steps: int, facts: list[str]) -> None:
        """A line, where it is time for one."""
        done = steps / self.total
        self.last = f"{steps:>{len(f'{self.total:,}')},} steps {done:>4.0%}  {'  '.join(filter(None, facts))}"
        tenths = math.floor(done / TENTH + 1e-9) > math.floor(self.told[1] / TENTH + 1e-9)
        if tenths or steps >= self.total or time.monotonic() - self.told[0] >= SECONDS:
            self.told = time.monotonic(), done
            self.stop()

    def stop(self) -> None:
        """The newest line, if it was not told yet."""
        if self.last:
            tell(self.last)
        self.last = ""


class Notebook(Silent):
    """One line of a cell's output, which is replaced by the next."""

    def start(self) -> None:
        """Show the line."""
        from IPython.display import display

        self.line = Line(f"{self.name}: compiling", 0.0)
        self.handle: Any = display(self.line, display_id=True)
        self.drawn = 0.0

    def show(self, steps: int, facts: list[str]) -> None:
        """Replace the line, but not more than twice a second."""
        facts = [f"{steps:,} of {self.total:,} steps", *filter(None, facts)]
        self.line = Line(f"{self.name}: {', '.join(facts)}", steps / self.total)
        if time.monotonic() - self.drawn > REDRAW:
            self.drawn = time.monotonic()
            self.handle.update(self.line)

    def stop(self) -> None:
        """The newest line."""
        self.handle.update(self.line)


class Line:
    """A text behind a bar, for a notebook."""

    def __init__(self, text: str, done: float):
        self.text, self.done = text, done

    def _repr_html_(self) -> str:
        return f'<progress value="{self.done:.4f}" style="width: 12em"></progress> {html.escape(self.text)}'

    def __repr__(self) -> str:
        return self.text


class Terminal(Silent):
    """A bar that is redrawn in place and always fits into one line."""

    bar: Any = None

    def start(self) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = TextColumn("[bold]{task.description}"), BarColumn(None), TextColumn("{task.fields[facts]}")
        self.console = Console(stderr=True)
        self.bar = Bar(*columns, console=self.console, expand=True)
        self.task = self.bar.add_task("", total=self.total, facts="")
        self.draw(0, ["compiling ..."])
        self.bar.start()

    def show(self, steps: int, facts: list[str]) -> None:
        """Move the bar."""
        self.draw(steps, [f"{steps:,}/{self.total:,}", *filter(None, facts)])

    def draw(self, steps: int, facts: list[str]) -> None:
        """The bar with as many of the facts as there is room for."""
        name, shown = fitted(self.name, facts, self.console.width - BAR - 2)
        self.bar.update(self.task, description=name, completed=steps, facts=shown)

    def say(self, text: str, transient: bool) -> None:
        """A message above the bar; a transient one in the place of the facts."""
        if self.bar is None:
            super().say(text, transient)
        elif transient:
            self.bar.update(self.task, facts=text)
        else:
            self.console.print(text, highlight=False, markup=False)

    def stop(self) -> None:
        """Leave the bar as it is."""
        self.bar.stop()


def fitted(name: str, facts: list[str], width: int) -> tuple[str, str]:
    """The name and the facts, two spaces between them, in so many characters at most.

    What does not fit is left out: first the environment in "PPO on CartPole-v1", then the last facts.
    """
    for title, least in ((name, len(facts)), (name.split(" on ")[0], 1)):
        for n in range(len(facts), least - 1, -1):
            shown = "  ".join(facts[:n])
            if len(title) + len(shown) <= width:
                return title, shown
    return "", facts[0][:width]


def in_notebook() -> bool:
    """Whether this runs in a kernel of Jupyter's, whose output a notebook shows."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
