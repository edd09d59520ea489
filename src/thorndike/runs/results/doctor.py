"""What a run's metrics say of its health: signs of trouble, what usually causes them and what to try. Without JAX."""

from __future__ import annotations

import dataclasses
from typing import Any

from thorndike.runs.storage.journal import Journal
from thorndike.runs.storage.metrics import read
from thorndike.runs.training.divergence import CAUSES
from thorndike.runs.training.signs import Finding, Watch, plan_of


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """How a run is, and the signs of trouble in its metrics."""

    path: str  # as a command line takes it
    state: str  # of `status.json`, and at which step
    rows: int  # of metrics that were looked at
    error: str  # what ended it, and the usual causes; "" where nothing did
    warnings: list[Finding]  # in the order in which they were first seen

    def to_json(self) -> dict[str, Any]:
        """The data that `thorndike doctor --json` prints."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.state}, {self.rows} rows of metrics"]
        lines += [f"{self.error}"] if self.error else []
        lines += [f"from step {warning.step:,}: {warning}" for warning in self.warnings]
        if not self.error and not self.warnings:
            lines.append("no sign of trouble" if self.rows else "nothing to look at yet")
        return "\n".join(lines)

    __repr__ = __str__


def diagnose(journal: Journal) -> Diagnosis:
    """Look at all rows of metrics, one after the other, and at how the run ended."""
    rows, status = read(journal.path / "metrics.jsonl"), journal.status
    watch = Watch(rows, journal.runs, plan_of(journal.info))
    error = str(status.get("error", ""))
    if status["state"] == "diverged":
        error = f"{error}. {CAUSES.get(str(status.get('metric')), CAUSES[''])}."
    state = f"{status['state']} at {status['steps']:,} steps"
    return Diagnosis(journal.shell_path, state, len(rows), error, watch.found)
