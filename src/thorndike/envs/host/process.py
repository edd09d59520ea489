"""Stepping a slice of host environments in a process of its own: both ends of the line, and what goes over it.

The driver asks with b"r" (reset) or b"s" (step). The worker answers b"." done, b"e" done and an episode ended, b"n" the
same with notes (JSON follows), b"f" a failure (JSON follows). Observations and rewards are in memory that both see.

A worker starts here (`serve`) and imports NumPy and Gymnasium only, never JAX. It is not a `multiprocessing` child: the
user's script is not imported again, so scripts need no `if __name__ == "__main__"`. What it registered with Gymnasium
is sent along.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import mmap
import os
import pickle
import signal
import socket
import struct
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

from thorndike.envs.host.layout import Block
from thorndike.envs.host.registry import register, registered_here
from thorndike.envs.host.worker import CATCH, CONSTRUCTION, GRACE, Failure, Job, Lost, Slice, named
from thorndike.errors import ConfigError


class Process:
    """Steps in a process of its own, over shared memory that no name can leak; killed when it hangs.

    A fresh interpreter, not a fork (JAX's threads do not survive one) and not `multiprocessing` (which would
    import the user's script again).
    """

    def __init__(self, make: Callable[[], Any], job: Job):
        if os.name != "posix":
            raise ConfigError('worker processes need Linux or macOS; use workers="serial"')
        self.job = job
        self.notes: list[str] = []
        try:
            self._payload = pickle.dumps((registered_here(), cloudpickle.dumps(make)))
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
            f"from {__name__} import serve; "
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
        self._asked = time.monotonic()
        self._sock.settimeout(60.0)
        with contextlib.suppress(OSError):  # it died at once: `wait` will say so
            send(self._sock, pickle.dumps(self.job))
            send(self._sock, self._payload)

    def send(self, command: str, actions: np.ndarray | None = None) -> None:
        """Ask for "reset" or "step"."""
        if actions is not None:
            self.block.action[...] = actions
        self._asked = time.monotonic()
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
            data = json.loads(receive(self._sock))
        except (EOFError, OSError):
            raise self._died() from None
        if answer == b"f":
            raise Failure(*data)
        ended, notes = data
        self.notes += notes
        return ended

    def _left(self, limit: float) -> float:
        """Seconds until an environment that has not answered since it was asked, or its turn came, is overdue."""
        return max(self._asked, self.block.since()) + limit - time.monotonic()

    def _answer(self, limit: float, patience: float) -> bytes | None:
        self._sock.settimeout(max(min(self._left(limit), patience), 0.001))
        try:
            answer = self._sock.recv(1)
        except TimeoutError:
            if self._popen.poll() is not None:  # a child of its own may hold the socket open
                raise self._died() from None
            if self._left(limit) > 0:
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


def send(channel: socket.socket, payload: bytes) -> None:
    """Send `payload` with its length in front."""
    channel.sendall(struct.pack("<Q", len(payload)) + payload)


def receive(channel: socket.socket) -> bytes:
    """What `send` sent; raises `EOFError` where the other end is gone."""

    def exactly(count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = channel.recv(min(count - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    return exactly(struct.unpack("<Q", exactly(8))[0])


def serve(channel: int, memory: int, trace: int) -> None:
    """A worker process: answer until the driver is gone.

    Where it is goes to `trace` when it is asked by SIGUSR1, and when it crashes.
    """
    faulthandler.enable(trace)
    faulthandler.register(signal.SIGUSR1, trace, all_threads=False)
    threading.Thread(target=_follow_driver, daemon=True).start()
    sock = socket.socket(fileno=channel)
    job: Job = pickle.loads(receive(sock))
    block = Block(job.layout, job.size, mmap.mmap(memory, 0))
    block.at[0] = -1
    with contextlib.suppress(EOFError, OSError):  # the driver is gone: nobody is left to tell
        _serve(sock, job, block)


def _serve(sock: socket.socket, job: Job, block: Block) -> None:
    envs = None
    try:
        try:
            specs, make = pickle.loads(receive(sock))
            register(specs)
            envs = Slice(pickle.loads(make), job, block)
            envs.build()
            sock.sendall(b".")
        except Failure as failure:
            return _tell(sock, failure)
        except CATCH as error:
            trace = "".join(traceback.format_exception(error))
            text = f"a worker process cannot unpickle it: {named(error)}\n\n{trace}"
            return _tell(sock, Failure(job.first, CONSTRUCTION, 0, 0, text))
        while command := sock.recv(1):
            try:
                ended = envs.reset() if command == b"r" else envs.step(block.action.copy())
            except Failure as failure:
                return _tell(sock, failure)
            if envs.notes:
                sock.sendall(b"n")
                send(sock, json.dumps([ended, envs.notes]).encode())
                envs.notes.clear()
            else:
                sock.sendall(b"e" if ended else b".")
    finally:
        if envs is not None:
            envs.close()


def _tell(sock: socket.socket, failure: Failure) -> None:
    sock.sendall(b"f")
    send(sock, json.dumps([*failure.args[:4], failure.text]).encode())


def _follow_driver() -> None:
    """Exit soon after the driver is gone, also where an environment hangs: stdin is a pipe that it holds."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)  # it leads a group of its own: see `Process`
