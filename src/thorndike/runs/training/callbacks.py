"""Functions of the user's that are called with every row of metrics: `on_row` of `td.train`."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from thorndike.errors import ConfigError
from thorndike.runs.storage.metrics import cell_of


class Stop:
    """What a function answers that wants training to stop."""

    def __repr__(self) -> str:
        return "td.STOP"


STOP = Stop()


def functions_of(on_row: Any, tensorboard: bool = False) -> list[Any]:
    """The functions that `on_row` names, one or several; with `tensorboard` one more that writes its logs.

    Raises `ConfigError` for what is no function, and `MissingExtraError`.
    """
    functions = [] if on_row is None else list(on_row) if isinstance(on_row, (list, tuple)) else [on_row]
    for function in functions:
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"on_row must be a function of (run, row), or a list of such, got {function!r}")
    if tensorboard:
        from thorndike.sinks import TensorBoard

        functions += [] if any(isinstance(one, TensorBoard) for one in functions) else [TensorBoard()]
    return functions


class Callbacks:
    """Calls the functions in turn; each sees what those before it have added to the row."""

    def __init__(self, functions: list[Any], say: Callable[[str], None]):
        self.functions, self.say = functions, say
        self.told: set[int] = set()  # which have failed, and of which that was said

    def __call__(self, run: Any, row: dict[str, Any]) -> str:
        """Add to the row what the functions answer; the name of one that says stop, or "".

        One that fails is reported once, is called again with the next row, and never stops training.
        """
        stop = ""
        for i, function in enumerate(self.functions):
            try:
                answer = function(run, row)
                if isinstance(answer, Stop):
                    stop = stop or _name(function)
                elif answer is not None:
                    row |= _numbers(answer, run.runs)
            except Exception as error:
                self.report(i, error)
        return stop

    def report(self, i: int, error: Exception) -> None:
        """Say, once for each function, how it failed and where."""
        if i not in self.told:
            self.told.add(i)
            last = traceback.extract_tb(error.__traceback__)[-1]
            what = traceback.format_exception_only(error)[-1].strip()
            name = _name(self.functions[i])
            self.say(f"warning: {name} failed, and training goes on: {what} ({last.filename}, line {last.lineno})")

    def close(self) -> None:
        """Close those that have something to close."""
        for i, function in enumerate(self.functions):
            try:
                getattr(function, "close", lambda: None)()
            except Exception as error:
                self.report(i, error)


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _numbers(answer: Any, runs: int) -> dict[str, Any]:
    """An answer's metrics as cells of a row; raises `TypeError` for anything else."""
    wanted = f"on_row functions answer nothing, td.STOP or a dict of names and numbers (or lists of {runs}, a number "
    wanted += "for each agent)"
    if not isinstance(answer, dict) or not all(isinstance(name, str) and name != "steps" for name in answer):
        raise TypeError(f"{wanted}, not {answer!r}")
    try:
        cells = {name: cell_of(value) for name, value in answer.items()}
    except (TypeError, ValueError):
        raise TypeError(f"{wanted}, not {answer!r}") from None
    if any(isinstance(cell, list) and len(cell) != runs for cell in cells.values()):
        raise TypeError(f"{wanted}, not {answer!r}")
    return cells
