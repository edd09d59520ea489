"""Other hyperparameters for a run that goes on: which can change, and what `run.json` keeps of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import Any

from thorndike.configuration import is_config, require, swept_fields, to_json
from thorndike.drivers.learner import steps_of
from thorndike.errors import CheckpointError, ConfigError
from thorndike.names import did_you_mean
from thorndike.runs.results.run import Run
from thorndike.runs.training.setup import driver_of
from thorndike.runs.training.validation import validate


def changed(algorithm: Any, change: dict[str, Any]) -> Any:
    """The algorithm with other values in fields, {"learning_rate": 1e-4, "replay.batch_size": 128}.

    Raises `ConfigError` for a field that there is not.
    """
    for name, value in change.items():
        algorithm = _replaced(algorithm, name.split("."), value, name)
    return algorithm


def _replaced(config: Any, path: list[str], value: Any, name: str) -> Any:
    fields = [field.name for field in dataclasses.fields(config)] if is_config(config) else []
    if path[0] not in fields:
        where, hint = type(config).__name__, did_you_mean(path[0], fields)
        raise ConfigError(f"there is no field {name!r} to change: {where} has no {path[0]!r}{hint}")
    inner = value if len(path) == 1 else _replaced(getattr(config, path[0]), path[1:], value, name)
    return dataclasses.replace(config, **{path[0]: inner})


def difference(before: Any, after: Any, prefix: str = "") -> dict[str, Any]:
    """The fields of `after` by their dotted names whose values are not those of `before`; of one class."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if is_config(old) and type(old) is type(new):
            found |= difference(old, new, f"{prefix}{field.name}.")
        elif to_json(old) != to_json(new):
            found[prefix + field.name] = new
    return found


def new_settings(run: Run, change: dict[str, Any]) -> dict[str, Any]:
    """The fields of the run's algorithm that `change` changes, and their new values.

    Raises:
        ConfigError: a field cannot have such a value, or cannot change while a run goes on, and why.
    """
    before = run.algorithm
    after = changed(before, change)
    fields, swept = difference(before, after), swept_fields(before)
    own = next((name for name in fields if name in swept), None)
    require(own is None, f"{own} cannot change: this run is a sweep of it")
    validate(after, run.env, run.info["steps"], run.seeds, run.given())
    more = next((name for name in swept_fields(after) if name not in swept), None)
    require(more is None, f"{more} cannot become a sweep: this run has one agent for each seed; start a new one")
    if not run.info.get("dataset") and steps_of(after) != steps_of(before):
        wrong = [name for name in fields if steps_of(changed(before, {name: fields[name]})) != steps_of(before)]
        raise ConfigError(
            f"{_names(wrong)} cannot change: this run counts its steps in rollouts of {steps_of(before)}, and these "
            f"would have {steps_of(after)}"
        )
    return fields


def misfit(run: Run, fields: dict[str, Any], error: CheckpointError) -> ConfigError:
    """What there is to say where the run's checkpoint does not fit the algorithm with these fields: which are to blame.

    `run.algorithm` is still what it was.
    """
    before, wrong = run.algorithm, []
    for name, value in fields.items():
        run.algorithm = changed(before, {name: value})
        with driver_of(run) as driver:
            try:
                run.state(driver)
            except CheckpointError as alone:
                wrong.append(name)
                error = alone
    run.algorithm = before
    shapes = str(error).partition(" does not fit: ")[2].partition(". It was saved")[0]
    return ConfigError(
        f"{_names(wrong or fields)} cannot change: the run's arrays have other shapes; {shapes or error}"
    )


def entry(before: Any, fields: dict[str, Any], steps: int) -> dict[str, Any]:
    """A change of an algorithm that is made at a step, for the history in `run.json`."""
    moved = {name: {"from": to_json(_value(before, name)), "to": to_json(value)} for name, value in fields.items()}
    return {"steps": steps, "made": time.strftime("%Y-%m-%dT%H:%M:%S"), "changed": moved}


def _names(fields: Iterable[str]) -> str:
    return " and ".join(fields)


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config
