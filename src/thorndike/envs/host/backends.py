"""Who steps a slice of host environments: this thread, a thread, or a process; each with arrays of its own.

All have `block`, `notes`, `start` (then `wait`), `send`, `wait`, `finish` (ask to end), `close` and `kill`.
`wait(limit, patience)` tells whether an episode ended, or None where no answer came within `patience` seconds. It
raises `Failure` (an environment's fault) or `Lost` (an environment gave no answer within the limit, or the worker died,
and its environments with it).
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from thorndike.envs.host.guard import Overdue, alarm, where
from thorndike.envs.host.layout import Block
from thorndike.envs.host.process import Process, left
from thorndike.envs.host.worker import GRACE, Job, Lost, Slice


class Local:
    """Steps in the calling thread. An environment that hangs is stopped at its next line of Python."""

    def __init__(self, make: Callable[[], Any], job: Job):
        self.job, self.block = job, Block(job.layout, job.size)
        self._slice = Slice(make, job, self.block)
        self.notes = self._slice.notes

    def start(self) -> None:
        """Make the environments."""
        self.send("build")

    def send(self, command: str, actions: np.ndarray | None = None) -> None:
        """Ask for "reset" or "step"."""
        self._asked = command, actions

    def wait(self, limit: float, patience: float) -> bool:
        """Do it, however long that takes."""
        try:
            with alarm(limit, self.block.since):
                return _run(self._slice, *self._asked)
        except Overdue:
            raise Lost(self.block, self.job, f"it did not answer in time\n\n{where()}") from None

    def finish(self) -> None:
        """Nothing to prepare."""

    def kill(self) -> None:
        """Close the environments, if they let themselves be closed."""
        self.close(time.monotonic() + GRACE)

    def close(self, deadline: float) -> None:
        """Close the environments."""
        with contextlib.suppress(Overdue), alarm(max(deadline - time.monotonic(), 0.001)):
            self._slice.close()


def _run(envs: Slice, command: str, actions: np.ndarray | None) -> bool:
    if command == "step":
        return envs.step(actions)  # type: ignore[arg-type]
    if command == "reset":
        return envs.reset()
    envs.build()
    return False


class Threaded:
    """Steps in a daemon thread, abandoned when it hangs: it never keeps the interpreter from exiting."""

    def __init__(self, make: Callable[[], Any], job: Job):
        self.job, self.block = job, Block(job.layout, job.size)
        self._slice = Slice(make, job, self.block)
        self.notes = self._slice.notes
        self._todo: queue.SimpleQueue = queue.SimpleQueue()
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, which makes the environments."""
        self._thread = threading.Thread(target=_thread, args=(self._slice, self._todo, self._done), daemon=True)
        self._thread.start()
        self.send("build")

    def send(self, command: str, actions: np.ndarray | None = None) -> None:
        """Ask for "reset" or "step"."""
        self.asked = time.monotonic()
        self._todo.put((command, actions))

    def wait(self, limit: float, patience: float) -> bool | None:
        """Its answer, if it comes soon."""
        try:
            answer = self._done.get(timeout=max(min(left(self, limit), patience), 0.0))
        except queue.Empty:
            if left(self, limit) > 0:
                return None
            frame = sys._current_frames().get(self._thread.ident or 0)  # type: ignore[union-attr]
            trace = "".join(traceback.format_stack(frame)) if frame else ""
            text = f"it did not answer in time; its thread was abandoned\n\nTraceback (most recent call last):\n{trace}"
            raise Lost(self.block, self.job, text) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def finish(self) -> None:
        """Ask it to close its environments and end, at once or when what it hangs in comes back."""
        self._todo.put(None)

    kill = finish

    def close(self, deadline: float) -> None:
        """Wait for its end, or abandon it."""
        if self._thread is not None:
            self._thread.join(max(deadline - time.monotonic(), 0.0))


def _thread(envs: Slice, todo: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
    while (asked := todo.get()) is not None:
        try:
            done.put(_run(envs, *asked))
        except BaseException as error:
            done.put(error)
    envs.close()


BACKENDS: dict[str, type[Local] | type[Threaded] | type[Process]] = {
    "serial": Local,
    "thread": Threaded,
    "process": Process,
}


def close_all(workers: list[Any]) -> None:
    """Close all workers within `GRACE` seconds; what still hangs is killed or abandoned."""
    for worker in workers:
        worker.finish()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.close(deadline)
    workers.clear()
