"""Rows of metrics, where they are due: what training says of itself, and evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thorndike.drivers.state import RunState
from thorndike.runs.results.run import Run
from thorndike.runs.storage.episodes import EpisodesFile, records
from thorndike.runs.storage.metrics import MetricsFile, read, row_of
from thorndike.runs.training.callbacks import Callbacks
from thorndike.runs.training.evaluation import Evaluator, values_of
from thorndike.runs.training.goals import Goals
from thorndike.runs.training.rows import of_episodes, of_learning
from thorndike.runs.training.signs import Finding, Watch, plan_of


class Log:
    """Writes `metrics.jsonl` for one training.

    A row of training's metrics is due every `log_every` rollouts, an evaluation every `evaluate_every`, and both after
    the last one. Where both are due they are one row. A row with an evaluation alone leaves the means of what learning
    says to the next one, so that evaluations do not change the others.
    """

    def __init__(self, run: Run, driver: Any, total: int, keep_until: int, callbacks: Callbacks):
        """`total` is the number of iterations; rows beyond the step `keep_until` are dropped, they come again."""
        self.run, self.driver, self.total = run, driver, total
        self.log_every, evaluate_every = run.info["log_every"], run.info["evaluate_every"]
        self.evaluate_every = evaluate_every and evaluate_every // driver.chunk
        self.save_every = run.info["checkpoint_steps"] and run.info["checkpoint_steps"] // driver.chunk
        if run.info.get("dataset") and evaluate_every is None and not getattr(run.env, "recorded", False):
            self.evaluate_every = self.log_every
        self.evaluator = Evaluator(run, driver.algorithm, run.info["evaluate_episodes"])
        self.callbacks, self.stopped = callbacks, ""  # why training stops, where it is to
        self.metrics = MetricsFile(run.path / "metrics.jsonl", keep_until)
        self.offline = bool(run.info.get("dataset"))
        self.endings = EpisodesFile(run.path / "episodes.bin", keep_until)
        self.seen: Any = 0  # episodes of each run [R] that are written down
        rows, info = read(run.path / "metrics.jsonl"), run.info
        self.goals = Goals(rows, info["stop_at"], info["patience"], bool(self.evaluate_every))
        self.watch = Watch(rows, run.runs, plan_of(info))
        self.warnings: list[Finding] = []  # signs of trouble that were first seen with the last row
        self.improved = False  # the last row has the best evaluation so far

    def episodes(self, state: RunState, diverged: dict[str, int]) -> None:
        """Write down the training episodes that have ended since this was last called; of runs that have diverged those
        before the step at which they did."""
        count = np.asarray(state.episodes.count)
        each = count - self.seen
        self.seen, new = count, int(each.max())
        if new == 0 or self.offline:
            return
        slots, _ = state.episodes.slots(new)
        there = np.arange(new) >= (new - each)[:, None]
        rings = (state.episodes.steps, state.episodes.returns, state.episodes.lengths)
        steps, returns, lengths = (np.take_along_axis(np.asarray(ring), slots, 1) for ring in rings)
        for run, at in diverged.items():
            there[int(run)] &= steps[int(run)] < at
        self.endings.write(records(steps, returns, lengths, there))

    def until_due(self, iterations: int) -> int:
        """How many iterations there are until something is due."""
        periods = [period for period in (self.log_every, self.evaluate_every, self.save_every) if period]
        return min(self.total - iterations, *(period - iterations % period for period in periods))

    def due(self, iterations: int) -> tuple[bool, bool]:
        """Whether a row of training's metrics is due, and whether an evaluation is."""
        last = iterations == self.total
        log, evaluate = self.log_every, self.evaluate_every
        return iterations % log == 0 or last, bool(evaluate) and (iterations % evaluate == 0 or last)

    def write(
        self,
        iterations: int,
        state: RunState,
        lost: np.ndarray,
        times: dict[str, float],
        warm: bool,
        interrupted: Callable[[], bool],
    ) -> RunState | None:
        """Write the row that is due; the state, in which a run from a dataset has its evaluation's episodes.

        None, with nothing written, if a signal came while the agents played.
        """
        row_due, evaluation_due = self.due(iterations)
        evaluated: dict[str, np.ndarray] = {}
        if evaluation_due:
            found = self.evaluator(state, lost, interrupted)
            if found is None:
                return None
            evaluated = values_of(found)
            if hasattr(self.driver, "record"):
                state = self.driver.record(state, found)
        values = of_episodes(state, lost) | {name: np.array([value]) for name, value in times.items()}
        if getattr(self.driver, "restarts", 0):
            values["rollout/env_restarts"] = np.array([self.driver.restarts])
        if row_due and not warm:
            values |= of_learning(state.tally, lost)
        row = row_of(iterations * self.driver.chunk, values | evaluated)
        who = self.callbacks(self.run, row)
        self.metrics.write(row)
        self.improved, self.warnings = self.goals.see(row), self.watch.see(row)
        self.stopped = f"on_row: {who} said so" if who else self.goals.reached(row)
        return state

    def close(self) -> None:
        """Close the file, the user's functions and the environments of evaluations."""
        self.callbacks.close()
        self.endings.close()
        self.metrics.close()
        self.evaluator.close()
