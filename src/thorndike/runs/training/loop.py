"""The training loop on the host: chunks of compiled work, and between them logs, checkpoints, progress and signals."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from thorndike.drivers.health import WIDTHS
from thorndike.drivers.state import RunState
from thorndike.errors import CheckpointError, DivergedError, EnvError
from thorndike.files import write_json
from thorndike.runs.results.run import Run
from thorndike.runs.storage import checkpoint
from thorndike.runs.training.beginning import found_state, fresh_state
from thorndike.runs.training.callbacks import Callbacks
from thorndike.runs.training.divergence import all_of_them, diverged_at, one_of_several
from thorndike.runs.training.log import Log
from thorndike.runs.training.progress import Progress
from thorndike.runs.training.rows import mean_returns
from thorndike.runs.training.signals import Background, Signals
from thorndike.runs.training.waiting import Patience, result_of

CHUNK_SECONDS = 0.25  # of compiled work between two looks at the world: signals, progress


class Loop:
    """Drives one run from its present state to its planned number of steps."""

    def __init__(self, run: Run, driver: Any, found: Any, progress: bool | None, on_row: Any = (), start: Any = None):
        """`found` is what `run.state` gives; `on_row` functions to call with each row; `start` a `Start`."""
        self.run, self.driver, self.algorithm = run, driver, driver.algorithm
        self.chunk, self.warm_until = driver.chunk, driver.warm_iterations
        self.total = run.info["steps"] // self.chunk
        self.seconds, self.compile_seconds, self.saved_at = 0.0, 0.0, -1
        self.timed = 0  # iterations that `seconds` measured; one that also compiled is not among them
        self.warned, self.strayed = "", False
        self.lost = np.zeros(run.runs, bool)  # runs that have diverged, while others go on
        self.fresh = False  # the metric sums were logged and begin anew
        self.reported = True  # the row that was due at this step, if any, is written
        self.state: Any = None  # a `RunState`, once it has begun
        self.progress = Progress(run, progress)
        compiled = driver.simulates and not run.info.get("dataset")
        ending = ", or a reset or a step of the environment never ends" if compiled else ""
        self.patience = Patience(self.progress.say, ending)
        self.started = time.monotonic()
        self.iterations = 0 if found is None else found[1]["iterations"]
        if 0 < self.total <= self.warm_until:
            self.progress.say(
                f"warning: nothing is learned: the first {self.warm_until * self.chunk:,} steps only fill the memory "
                f"(replay.warmup), and there are {self.run.info['steps']:,}"
            )
        self.compilations = self.compile()
        self.found, self.on_row, self.start = found, list(on_row), start

    def begin(self, signals: Signals) -> bool:
        """The state at the start: a fresh one, or the one that was found; False if a signal came first."""
        found, self.found = self.found, None
        if found is None:
            if self.start is not None:
                self.progress.say(self.start.told)
            self.state = fresh_state(self.run, self.driver, self.start, signals)
            return self.state is not None
        meta = found[1]
        self.seconds, self.timed, self.fresh, self.saved_at = meta["seconds"], meta["timed"], meta["fresh"], self.steps
        self.reported = meta.get("reported", True)
        self.state = found_state(self.run, self.driver, found, self.iterations < self.total, self.progress.say)
        self.lost = ~np.asarray(self.state.tally.healthy())
        return True

    def go(self) -> None:
        """Train until the planned steps are done. Raises `DivergedError`, `KeyboardInterrupt` or `SystemExit`."""
        keep = self.steps if self.found else -1
        self.log = Log(self.run, self.driver, self.total, keep, Callbacks(self.on_row, self.progress.say))
        with Signals() as signals, self.progress:
            try:
                begun = self.begin(signals)
                if begun:
                    self.loop(signals)
            except EnvError as error:
                failed = {"state": "failed", "error": str(error).splitlines()[0]}
                write_json(self.run.path / "status.json", self.run.status | failed)
                raise
            finally:
                self.log.close()
            if not begun:
                write_json(self.run.path / "status.json", {"state": "interrupted", "steps": 0, "seconds": 0.0})
                self.progress.say(f"stopped before the first step; go on with: {self.run.resume_with}")
            elif signals.caught is not None and not self.log.stopped:
                self.save()
                self.status("interrupted")
                self.progress.say(f"stopped and saved at {self.steps} steps; go on with: {self.run.resume_with}")
            else:
                if self.saved_at != self.steps:
                    self.save()
                if self.log.stopped:
                    self.progress.say(f"stopped at {self.steps:,} steps: {self.log.stopped}")
                self.status("finished", **({"stopped": self.log.stopped} if self.log.stopped else {}))
        if signals.caught == signal.SIGTERM:
            raise SystemExit(143)
        if signals.caught is not None:
            raise KeyboardInterrupt

    @property
    def steps(self) -> int:
        """Environment steps of each agent so far."""
        return self.iterations * self.chunk

    @property
    def rate(self) -> float:
        """Environment steps per second of all runs together, without compilation; NaN before any was timed."""
        return self.timed * self.chunk * self.run.runs / self.seconds if self.timed else math.nan

    def loop(self, signals: Signals) -> None:
        """Chunk after chunk."""
        program: bool | None = None
        per_iteration = math.inf
        last_save = time.monotonic()
        self.patience.wait(self.state.steps, time.monotonic(), self.steps)
        jax.block_until_ready(self.state)  # raises what went wrong; to ask for its numbers would wait for ever
        self.status("running")
        self.log.seen = np.asarray(self.state.episodes.count)
        if self.start is not None:
            self.save()  # what it started from may be gone when it goes on
        if not self.reported:
            self.report(signals)
        while self.iterations < self.total and signals.caught is None and not self.log.stopped:
            warm = self.iterations < self.warm_until
            if warm != program:
                since = time.monotonic() if program is not None else self.started
                self.progress.say("compiling ...", transient=True)
                result_of(self.compilations[warm], signals)
                self.compile_seconds += time.monotonic() - since
                if signals.caught is not None:
                    return
                program, per_iteration = warm, math.inf
            n = 1 if per_iteration == math.inf else max(1, int(CHUNK_SECONDS / per_iteration))
            if warm:
                n = min(n, self.warm_until - self.iterations)
            n = min(n, self.log.until_due(self.iterations))

            start = time.monotonic()
            most = self.state.episodes.returns.shape[1] - self.chunk  # so that none is lost from the rings
            self.state, self.fresh = self.driver.advance(self.state, n, warm, self.fresh, most), False
            self.patience.wait(self.state.steps, start, self.steps)
            healthy = np.asarray(self.state.tally.healthy())
            spent, n = time.monotonic() - start, max(1, int(self.state.iterations[0]) - self.iterations)
            if per_iteration == math.inf and self.driver.lazy:
                self.compile_seconds += spent
            else:
                self.seconds, self.timed = self.seconds + spent, self.timed + n
            per_iteration = spent / n if per_iteration == math.inf else 0.5 * (per_iteration + spent / n)
            if not healthy.any():
                self.diverged()
            self.iterations += n
            self.mark(healthy)
            self.log.episodes(self.state, self.diverged_at())
            self.report(signals)
            if not self.reported:
                return
            self.progress.show(self.steps, self.rate, self.returns())
            due = self.log.save_every and self.iterations % self.log.save_every == 0
            if due or time.monotonic() - last_save > self.run.info["checkpoint_every"]:
                self.unless_the_disk_refuses(self.save)
                last_save = time.monotonic()

    def unless_the_disk_refuses(self, save: Callable[[], None]) -> None:
        """Save something that training can do without."""
        try:
            save()
        except CheckpointError as error:
            if str(error) != self.warned:  # once, however often it is tried
                self.progress.say(f"warning: {error}")
            self.warned = str(error)

    def compile(self) -> dict[bool, Background]:
        """Start to compile all programs that are still needed, in threads, the first needed first."""
        needed = {True: self.iterations < min(self.warm_until, self.total), False: self.warm_until < self.total}
        left = self.iterations < self.total
        return {warm: Background(partial(self.driver.compile, warm)) for warm in needed if needed[warm] and left}

    def mark(self, healthy: np.ndarray) -> None:
        """Say what has happened in the last chunk: which runs diverged, and that an observation was far outside."""
        for run in np.flatnonzero(~healthy & ~self.lost).tolist():
            self.progress.say(one_of_several(self.state.tally, run, self.chunk, self.run.members()[run]))
        self.lost = ~healthy
        stray = float(np.max(self.state.tally.stray))
        if stray and not self.strayed:
            self.strayed = True
            self.progress.say(
                f"warning: an observation was as large as {stray:g}, outside of its space (a float by more than "
                f"{WIDTHS} widths): learning goes on; scale it, or correct observation_space"
            )

    def returns(self) -> np.ndarray:
        """Mean return over the last episodes of each run [R]; see `rows.mean_returns`."""
        return mean_returns(self.state.episodes, self.lost)

    def report(self, signals: Signals) -> None:
        """Write the row of metrics that is due here, if any. Where a signal comes first it stays due."""
        row_due, evaluation_due = self.log.due(self.iterations)
        if not (row_due or evaluation_due):
            return
        if evaluation_due:
            self.progress.say("evaluating ...", transient=True)
        warm = self.iterations <= self.warm_until
        times = {"time/fps": self.rate, "time/seconds": self.seconds}
        interrupted = lambda: signals.caught is not None  # noqa: E731
        state = self.log.write(self.iterations, self.state, self.lost, times, warm, interrupted)
        self.reported = state is not None
        if state is not None:
            self.state, self.fresh = state, self.fresh or (row_due and not warm)
            for warning in self.log.warnings:
                ask = f"thorndike doctor {self.run.journal.shell_path} says what to try"
                self.progress.say(f"warning: {warning.saw} at step {self.steps:,}; {ask}")
            if self.log.improved:
                self.unless_the_disk_refuses(self.save_best)

    def save(self) -> None:
        """A checkpoint of everything."""
        if self.saved_at == self.steps:
            return
        meta = {
            "iterations": self.iterations,
            "seconds": self.seconds,
            "timed": self.timed,
            "devices": self.driver.devices,
            "fresh": self.fresh,
            "reported": self.reported,
            "diverged": self.diverged_at(),
        }
        state: RunState = self.state
        info = self.run.info
        folder = self.run.path / "checkpoints"
        checkpoint.save(folder, self.steps, state, meta, info["keep"], info["checkpoint_steps"])
        self.saved_at = self.steps
        self.status("running")

    def save_best(self) -> None:
        """The agents, which have just had the best evaluation so far."""
        nothing = {field: () for field in RunState._fields if field != "agent"}
        meta = {"steps": self.steps, "diverged": self.diverged_at()}
        checkpoint.save_best(self.run.path / "checkpoints", self.state._replace(**nothing), meta)

    def status(self, state: str, **more: Any) -> None:
        """Where the run is, in `status.json`."""
        returns = [float(x) if math.isfinite(x) else None for x in self.returns()]
        best, warnings = self.log.goals.best, self.log.watch.found
        said = {
            "state": state,
            "steps": self.steps,
            "episodes": int(np.max(self.state.episodes.count)),
            "seconds": round(self.seconds, 3),
            "compile_seconds": round(self.compile_seconds, 3),
            "steps_per_second": round(self.rate, 1) if self.timed else None,
            "return_mean": returns,
        }
        if best is not None:
            said["best"] = {"mean_reward": best[0], "steps": best[1]}
        if warnings:
            said["warnings"] = [{"sign": one.sign, "step": one.step, "saw": one.saw} for one in warnings]
        if self.lost.any():
            said["diverged"] = self.diverged_at()
        write_json(self.run.path / "status.json", said | more)

    def diverged_at(self) -> dict[str, int]:
        """The runs that have diverged, by their place among `members()`, and the step at which each did."""
        return diverged_at(self.state.tally, self.lost, self.chunk)

    def diverged(self) -> None:
        """Say which metric went first and what usually causes it."""
        name, error, causes = all_of_them(self.state.tally, self.chunk, self.run.members())
        kept = f"the checkpoint at {self.saved_at} steps is kept" if self.saved_at > 0 else "no checkpoint was due yet"
        self.status("diverged", metric=name, error=error)
        raise DivergedError(f"{error}. {causes}. The run at {self.run.path} is stopped; {kept}.")
