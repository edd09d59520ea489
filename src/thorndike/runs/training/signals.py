"""Work beside the main thread, which stays free to hear signals; and the signals that it hears."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any


class Background(threading.Thread):
    """Does what has to be compiled beside the main thread, which stays free to hear signals."""

    def __init__(self, work: Callable[[], Any]):
        super().__init__(daemon=True)
        self.work, self.result = work, None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """Do it, and keep the result, or the error if there is one."""
        try:
            self.result = self.work()
        except Exception as error:
            self.error = error


def at_work() -> list[Background]:
    """Those that are not done."""
    return [thread for thread in threading.enumerate() if isinstance(thread, Background)]


@atexit.register
def wait_for_all() -> None:
    """Wait for compilations: a thread that comes back from XLA to an interpreter on its way out aborts it."""
    for thread in at_work():
        thread.join()


class Signals:
    """SIGINT and SIGTERM set a flag that the loop looks at; a second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.caught: int | None = None
        self.old: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.old[number] = signal.signal(number, self.handle)
        return self

    def handle(self, number: int, frame: Any) -> None:
        """First signal: remember it. Second Ctrl-C: out."""
        if self.caught is not None and number == signal.SIGINT:
            with contextlib.suppress(Exception):  # closed, or written to in this moment
                show_cursor = "\x1b[?25h" * sys.stderr.isatty()
                sys.stderr.write(f"{show_cursor}\ninterrupted twice: leaving without saving\n")
                sys.stderr.flush()
            os._exit(130)
        self.caught = number

    def __exit__(self, *exc: Any) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)
