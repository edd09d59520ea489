"""Who steps a slice of host environments: this process or another one; each with arrays of its own.

Both have `block`, `notes`, `start` (then `wait`), `send`, `wait`, `finish` (ask to end), `close` and `kill`.
`wait(limit, patience)` tells whether an episode ended, or None where no answer came within `patience` seconds. It
raises `Failure` (an environment's fault) or `Lost` (an environment gave no answer within the limit, or the worker died,
and its environments with it).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from thorndike.envs.host.guard import Overdue, alarm, where
from thorndike.envs.host.layout import Block
from thorndike.envs.host.process import Process
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
        method = getattr(self._slice, command)
        self._asked = method if actions is None else partial(method, actions)

    def wait(self, limit: float, patience: float) -> bool:
        """Do it, however long that takes."""
        try:
            with alarm(limit, self.block.since):
                return self._asked()
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


BACKENDS: dict[str, type[Local] | type[Process]] = {"serial": Local, "process": Process}


def close_all(workers: list[Any]) -> None:
    """Close all workers within `GRACE` seconds; what still hangs is killed or given up."""
    for worker in workers:
        worker.finish()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.close(deadline)
    workers.clear()
