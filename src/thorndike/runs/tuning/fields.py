"""The fields that are tuned: which are numbers that one program can sweep, and an algorithm with values there."""

from __future__ import annotations

import contextlib
import typing
from typing import Any

import numpy as np

from thorndike.configuration import bare, check, swept_fields
from thorndike.errors import ConfigError, require
from thorndike.runs.training.changes import changed
from thorndike.runs.tuning.ranges import Choices, LogRange, Over, Range, is_number


def check_fields(algorithm: Any, over: Over) -> None:
    """Raise `ConfigError` for a field that there is not, or values that it cannot have."""
    for name in over:
        whole = next((other for other in over if name.startswith(f"{other}.")), None)
        require(whole is None, f"{name} is a part of {whole}, which is tuned as well: leave one of them out")
    for name, values in over.items():
        for value in whole_ends(algorithm, name, values) if isinstance(values, Range) else values.values:
            setting = changed(algorithm, {name: value})
            with telling(name):
                check(setting)


@contextlib.contextmanager
def telling(name: str) -> typing.Iterator[None]:
    """An error that says which range is to blame."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"the range of {name} has values that it cannot have: {error}") from None


def sweepable(algorithm: Any, over: Over) -> list[str]:
    """Which of the fields are numbers that compiled programs take as arrays."""
    arrays = {name: changed(algorithm, {name: np.array([0.5, 0.5], np.float32)}) for name in over}
    numbers = {
        name for name, values in over.items() if not isinstance(values, Choices) or all(map(is_number, values.values))
    }
    return [name for name, setting in arrays.items() if name in numbers and name in swept_fields(setting)]


def population_of(algorithm: Any, settings: list[dict[str, Any]]) -> Any:
    """The algorithm with arrays of all settings in its fields."""
    return changed(algorithm, {name: np.array([one[name] for one in settings], np.float32) for name in settings[0]})


def whole_ends(algorithm: Any, name: str, values: Range) -> tuple[Any, Any]:
    """The ends of a range, whole numbers where the field is one; raises `ConfigError`."""
    low, high = values.low, values.high
    if not is_whole_field(algorithm, name):
        return low, high
    whole = low == int(low) and high == int(high)
    require(whole, f"{name} is a whole number, and its range has the ends {low:g} and {high:g}: give whole ones")
    return int(low), int(high)


def is_whole_field(algorithm: Any, name: str) -> bool:
    """Whether a field is a whole number."""
    *path, last = name.split(".")
    for part in path:
        algorithm = getattr(algorithm, part, None)
    hint = bare(getattr(type(algorithm), "__thorndike_hints__", {}).get(last))
    return int in (hint, *map(bare, typing.get_args(hint)))


def value_at(algorithm: Any, name: str) -> Any:
    """The value of a field by its dotted name."""
    for part in name.split("."):
        algorithm = getattr(algorithm, part)
    return algorithm


def own_setting(algorithm: Any, over: Over) -> dict[str, Any] | None:
    """The setting that the algorithm has already; None where it is not within the ranges."""
    found = {name: value_at(algorithm, name) for name in over}
    return found if all(values.holds(found[name]) for name, values in over.items()) else None


def ends(over: Over, best: dict[str, Any]) -> list[str]:
    """What the best setting says of the ranges: those at whose end it lies."""
    found = []
    for name, values in over.items():
        if not isinstance(values, Range) or (isinstance(best[name], int) and values.high - values.low < 10):
            continue  # of few values one is always at an end
        scale = np.log if isinstance(values, LogRange) else float
        low, high, x = map(scale, (values.low, values.high, best[name]))
        end = "lower" if x - low < 0.05 * (high - low) else "upper" if high - x < 0.05 * (high - low) else ""
        found += [f"{name} is near the {end} end of its range: widen it there, if it may"] if end else []
    return found
