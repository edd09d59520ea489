"""What tuning found."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from pathlib import Path
from typing import Any

from thorndike.presets import write_preset
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.run import Run
from thorndike.runs.training.changes import changed
from thorndike.settings import spell
from thorndike.text import near, score

SHOWN = 10  # trials in the table


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting, and how it did."""

    number: int
    settings: dict[str, Any]
    steps: int  # environment steps until it was stopped, or to the end
    score: float  # mean return over the last part of these; NaN where no episode ended
    diverged: bool  # or could not be trained at all

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        data = dataclasses.asdict(self)
        settings = {name: value if _simple(value) else str(value) for name, value in self.settings.items()}
        return {**data, "settings": settings, "score": None if math.isnan(self.score) else self.score}


@dataclasses.dataclass(frozen=True, repr=False)
class Tuned:
    """What `td.tune` found; `print` shows the table."""

    path: Path
    algorithm: Any  # that was tuned, with its own numbers
    environment: str
    steps: int  # of a whole trial
    trials: tuple[Trial, ...]  # the best first
    notes: tuple[str, ...]  # what the best setting says of the ranges
    place: tuple[Path, int]  # the run that the best trial is in, and its configuration there
    given: tuple[Any, Any]  # the environment, and classes, that its run is opened with

    @property
    def settings(self) -> dict[str, Any]:
        """The best setting, by the names of fields."""
        return self.trials[0].settings

    @property
    def score(self) -> float:
        """Its mean return over the last part of training."""
        return self.trials[0].score

    @cached_property
    def best(self) -> Any:
        """The algorithm with the best setting, for `td.train`."""
        return changed(self.algorithm, self.settings)

    def agent(self, seed: int | None = None) -> Agent:
        """The agent that the best trial has trained; with several seeds the first, or one of them."""
        path, configuration = self.place
        env, classes = self.given
        return Run(path, env, classes).agent(seed, configuration)

    def save(self, path: str | Path) -> None:
        """Write the best settings as a preset: for `td.train(..., preset=path)`, or `thorndike train ... --preset`."""
        write_preset(path, self.best, self.environment, self.steps)

    def to_json(self) -> dict[str, Any]:
        """The data that `thorndike tune --json` prints."""
        return {
            "path": str(self.path),
            "algorithm": type(self.algorithm).__name__,
            "environment": self.environment,
            "steps": self.steps,
            "trials": [trial.to_json() for trial in self.trials],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        fields = list(self.settings)
        head = ["trial", "score", "steps", *fields]
        rows = [head, *(_row(trial, fields) for trial in self.trials[:SHOWN])]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
        left = len(self.trials) - SHOWN
        whole = sum(trial.steps >= self.steps for trial in self.trials)
        lost = sum(trial.diverged for trial in self.trials)
        name = type(self.algorithm).__name__
        first = f"{name} on {self.environment}: {len(self.trials)} trials of {self.steps:,} steps, {whole} to the end"
        return "\n".join(
            [
                first + (f", {lost} diverged or refused" if lost else ""),
                *table,
                *([f"and {left} more, in {near(self.path)}"] if left > 0 else []),
                f"best    {spell(self.settings)}",
                *(f"note    {note}" for note in self.notes),
                f"preset  {near(self.path / 'preset.json')}",
            ]
        )

    __repr__ = __str__


def _row(trial: Trial, fields: list[str]) -> list[str]:
    said = "diverged" if trial.diverged else "-" if math.isnan(trial.score) else score(trial.score)
    values = [trial.settings[name] for name in fields]
    return [
        str(trial.number),
        said,
        f"{trial.steps:,}",
        *(f"{x:.4g}" if isinstance(x, float) else str(x) for x in values),
    ]


def _simple(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))
