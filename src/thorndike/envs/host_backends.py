"""Who steps a slice of host environments: this thread, a thread, or a process; each with arrays of its own.

All have `block`, `notes`, `start` (then `wait`), `send`, `wait`, `finish` (ask to end), `close` and `kill`.
`wait(limit, patience)` tells whether an episode ended, or None where no answer came within `patience` seconds. It
raises `Failure` (an environment's fault) or `Lost` (an environment gave no answer within the limit, or the worker died,
and its environments with it).
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np

from thorndike.envs import host_worker
from thorndike.envs.guard import Overdue, alarm, where
from thorndike.envs.host_layout import Block
from thorndike.envs.host_worker import GRACE, PHASES, Failure, Job, Slice, when
from thorndike.errors import ConfigError


class Lost(Exception):
    """A worker gave no answer. `slot` is the environment of its slice that it was busy with (-1: none)."""

    def __init__(self, block: Block, job: Job, what: str):
        slot, phase, step, age, _ = block.at
        self.slot = slot
        if slot < 0:
            text = f"environments {job.first} to {job.first + job.size - 1} failed between two steps: {what}"
        else:
            text = f"environment {job.first + slot} failed {when(PHASES[phase], step, age)}: {what}"
        super().__init__(text)


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


def left(worker: Threaded | Process, limit: float) -> float:
    """Seconds until an environment that has not answered since it was asked, or its turn came, is overdue."""
    return max(worker.asked, worker.block.since()) + limit - time.monotonic()


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


class Process:
    """Steps in a process of its own, over shared memory that no name can leak; killed when it hangs.

    A fresh interpreter, not a fork (JAX's threads do not survive one) and not `multiprocessing` (which would
    import the user's script again).
    """

    def __init__(self, make: Callable[[], Any], job: Job):
        if os.name != "posix":
            raise ConfigError('worker processes need Linux or macOS; use workers="thread" or "serial"')
        self.job = job
        self.notes: list[str] = []
        try:
            self._payload = cloudpickle.dumps(make)
        except Exception as error:
            raise ConfigError(
                f"the environment cannot be sent to a worker process ({type(error).__name__}: {error}). Pass "
                'its class or a function that makes it, or use workers="serial".'
            ) from None
        self._memory = _shared(Block.size(job.layout, job.size))
        self.block = Block(job.layout, job.size, mmap.mmap(self._memory, 0))
        self._trace = os.fdopen(_shared(0), "rb")
        self._owner = os.getpid()
        self._popen: Any = None

    def start(self) -> None:
        """Start the process, which makes the environments."""
        self._sock, theirs = socket.socketpair()
        folders = [folder for folder in sys.path if isinstance(folder, str)]  # Python passes over others
        code = (
            f"import sys; sys.path[:] = {folders!r}; sys.argv[:] = {sys.argv!r}; "
            f"from {host_worker.__name__} import serve; "
            f"serve({theirs.fileno()}, {self._memory}, {self._trace.fileno()})"
        )
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,  # a lifeline: it closes with this process, however that ends
                pass_fds=(theirs.fileno(), self._memory, self._trace.fileno()),
                env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ},
                process_group=0,  # Ctrl-C is for the driver alone, and what it starts itself ends with it
            )
        os.close(self._memory)
        self.asked = time.monotonic()
        self._sock.settimeout(60.0)
        with contextlib.suppress(OSError):  # it died at once: `wait` will say so
            host_worker.send(self._sock, pickle.dumps(self.job))
            host_worker.send(self._sock, self._payload)

    def send(self, command: str, actions: np.ndarray | None = None) -> None:
        """Ask for "reset" or "step"."""
        if actions is not None:
            self.block.action[...] = actions
        self.asked = time.monotonic()
        with contextlib.suppress(OSError):
            self._sock.sendall(b"r" if command == "reset" else b"s")

    def wait(self, limit: float, patience: float) -> bool | None:
        """Its answer, if it comes soon."""
        answer = self._answer(limit, patience)
        if answer is None:
            return None
        if answer in b".e":
            return answer == b"e"
        try:
            self._sock.settimeout(5.0)
            data = json.loads(host_worker.receive(self._sock))
        except (EOFError, OSError):
            raise self._died() from None
        if answer == b"f":
            raise Failure(*data)
        ended, notes = data
        self.notes += notes
        return ended

    def _answer(self, limit: float, patience: float) -> bytes | None:
        self._sock.settimeout(max(min(left(self, limit), patience), 0.001))
        try:
            answer = self._sock.recv(1)
        except TimeoutError:
            if self._popen.poll() is not None:  # a child of its own may hold the socket open
                raise self._died() from None
            if left(self, limit) > 0:
                return None
            self._popen.send_signal(signal.SIGUSR1)  # for a traceback
            text = f"it did not answer in time; its worker process was killed{self._traceback(0.5)}"
            raise Lost(self.block, self.job, text) from None
        except OSError:
            answer = b""
        if not answer:
            raise self._died()
        return answer

    def _died(self) -> Lost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(1.0)
        code = self._popen.poll()
        if code is None:
            how = "it closed its connection"
        elif code < 0:
            how = f"it was killed by signal {-code}, {signal.strsignal(-code)}"
        else:
            how = f"exit code {code}"
        return Lost(self.block, self.job, f"the worker process is gone ({how}){self._traceback(0.0)}")

    def _traceback(self, seconds: float) -> str:
        """Where the process says, or has said within so many seconds, that it was; nothing if it did not."""
        until, before, text = time.monotonic() + seconds, None, b""
        while not text or text != before:  # until it is written to its end
            before, text = text, os.pread(self._trace.fileno(), 1 << 16, 0)
            if time.monotonic() > until:
                break
            time.sleep(0.02)
        return f"\n\nTraceback: {text.decode(errors='replace')}" if text else ""

    def kill(self) -> None:
        """Kill the process, and what it started, and wait for its end."""
        if self._popen is not None and os.getpid() == self._owner:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # all have ended
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
            self.finish()
            self._trace.close()
            with contextlib.suppress(OSError):
                self._popen.stdin.close()

    def finish(self) -> None:
        """Ask it to close its environments and end."""
        if self._popen is not None and os.getpid() == self._owner:
            self._sock.close()

    def close(self, deadline: float) -> None:
        """Wait for its end, then kill it."""
        if self._popen is not None and os.getpid() == self._owner:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(max(deadline - time.monotonic(), 0.01))
            self.kill()


def _shared(size: int) -> int:
    """A descriptor of nameless memory."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("thorndike")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


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
