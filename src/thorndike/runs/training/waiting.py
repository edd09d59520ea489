"""Waiting for compiled work without being deaf: signals are heard meanwhile, and a long silence is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from thorndike.runs.training.signals import Background, Signals

SILENCE = 60.0  # seconds without an answer from compiled work, until that is said


def result_of(work: Background, signals: Signals) -> Any:
    """What `work` gives; None if a signal came first. Raises what it raised."""
    while work.is_alive() and signals.caught is None:
        work.join(0.02)
    if work.error is not None:
        raise work.error
    return work.result


class Patience:
    """Waits for arrays; not in XLA, where Python would not hear a second Ctrl-C."""

    def __init__(self, say: Callable[[str], None], ending: str):
        """`ending`: what else a silence may mean."""
        self.say, self.ending, self.patient = say, ending, True

    def wait(self, array: Any, since: float, steps: int) -> None:
        """Until the array has a value; what takes `SILENCE` is said once, with the number of steps until then."""
        while not array.is_ready():
            time.sleep(0.001)
            if self.patient and time.monotonic() - since > SILENCE:
                self.patient = False
                self.say(
                    f"no answer for {SILENCE:g} s after step {steps}: an iteration takes that long{self.ending}; "
                    "Ctrl-C twice leaves at once"
                )
