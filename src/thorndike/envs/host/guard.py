"""Calls into environments from this process: what fails, exits or, in the main thread, hangs becomes a named error."""

from __future__ import annotations

import contextlib
import math
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from thorndike.envs.host.layout import Fault
from thorndike.envs.host.worker import CATCH, GRACE, named
from thorndike.errors import EnvError, ThorndikeError

START = 60.0  # seconds that making an environment may take, whatever the time-out
AGAIN = 0.05, 0.5  # seconds from one `Overdue` to the next, drawn anew each time: no `except` in a loop catches all
_START: ContextVar[float | None] = ContextVar("start", default=None)


def in_main_thread() -> bool:
    """Whether this is the one that can be interrupted."""
    return threading.current_thread() is threading.main_thread()


class Overdue(BaseException):
    """The time is up. Not an `Exception`: an environment that catches those does not catch this."""


@contextlib.contextmanager
def alarm(seconds: float, since: Callable[[], float] = lambda: 0.0) -> Iterator[None]:
    """Raise `Overdue` in the body after `seconds`, counted from the start or, where it is later, from `since()`; and
    again and again after that, for code that catches everything. Does nothing outside of the main thread, on systems
    without timers, and where this process's timer is in use.
    """
    able = in_main_thread() and hasattr(signal, "setitimer") and seconds < math.inf
    if not able or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return
    start, inside = time.monotonic(), True

    def overdue(number: int, frame: Any) -> None:
        left = max(since(), start) + seconds - time.monotonic()
        if inside:
            signal.setitimer(signal.ITIMER_REAL, left if left > 0 else random.uniform(*AGAIN))
            if left <= 0:
                raise Overdue

    old = signal.signal(signal.SIGALRM, overdue)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        inside = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@contextlib.contextmanager
def starts_within(seconds: float) -> Iterator[None]:
    """What is `guarded` in here may take a minute, or `seconds` if that is longer; elsewhere as long as it likes."""
    token = _START.set(max(seconds, START))
    try:
        yield
    finally:
        _START.reset(token)


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Raise an `EnvError` that says `what` and why, where an environment fails, exits or, in the main thread, hangs."""
    limit = _START.get()
    try:
        with alarm(limit) if limit is not None else contextlib.nullcontext():
            yield
    except ThorndikeError:
        raise
    except Fault as fault:
        raise EnvError(f"{what}: {fault}") from None
    except (Overdue, *CATCH) as error:
        late = isinstance(error, Overdue)
        why = f"no answer in {limit:g} s, and env_timeout is not longer" if late else named(error)
        raise EnvError(f"{what}: {why}\n\n{where()}") from None


def where() -> str:
    """The traceback of the error that is handled, without the name of `Overdue`."""
    return traceback.format_exc().replace(f"\n{Overdue.__module__}.{Overdue.__name__}", "")


def put_away(env: Any) -> None:
    """Close an environment, whatever it answers, if it does so soon."""
    with contextlib.suppress(Overdue, *CATCH), alarm(GRACE):
        env.close()
