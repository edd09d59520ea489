"""The command that trains a run once more: its settings as options of `thorndike train`."""

from __future__ import annotations

import ast
import math
import shlex
from typing import Any

from thorndike.algorithms import entries
from thorndike.errors import ConfigError, ThorndikeError
from thorndike.runs.storage.journal import LATER, Journal
from thorndike.settings import flat

SCHEDULES = ("Linear", "Cosine", "Exponential", "Harmonic")
OPTIONS = ("evaluate_every", "evaluate_episodes", "stop_at", "patience", "checkpoint_steps")  # with defaults of `LATER`


def again(journal: Journal) -> str:
    """The command, on one line.

    Raises:
        ConfigError: there is none, with the reason: something took part that a command line does not name.
    """
    info = journal.info
    name = next((entry.name for entry in entries().values() if entry.class_name == journal.name), None)
    if name is None or journal.own_types:
        raise ConfigError("classes of your own took part")
    for key, what in (("start", "it started from another agent"), ("given", "it was given trained agents")):
        if info.get(key):
            raise ConfigError(what)
    if info["history"]:
        raise ConfigError("its settings were changed on the way; the history in run.json has them")
    words = ["thorndike", "train", name, journal.environment["id"], "--steps", str(info["steps"])]
    words += ["--seed", str(journal.seed)] * bool(journal.seed) + ["--seeds", str(journal.seeds)] * (journal.seeds > 1)
    for option in OPTIONS:
        if info[option] != LATER[option][1]:
            words += [_flag(option), str(info[option])]
    words += ["--dataset", info["dataset"]] * bool(info.get("dataset"))
    words += ["--log-info", *info["log_info"]] if info.get("log_info") else []
    words += _environment(journal)
    if journal.base == "defaults" and _has_preset(journal):
        words.append("--no-preset")
    return shlex.join([*words, *_settings(journal)])


def _settings(journal: Journal) -> list[str]:
    """What differs from preset or defaults, and what is swept."""
    settings, words = flat(journal.settings), []
    for name in journal.changed:
        if name in journal.swept:
            continue
        if settings[name] in SCHEDULES:
            values = [x for key, x in settings.items() if key.startswith(f"{name}.")]
            while values[-1] in (None, "step"):  # which are defaults
                values.pop()
            if None in values:
                raise ConfigError(f"no command line spells the schedule of its {name}")
            words += [_flag(name), ":".join([settings[name].lower(), *map(str, values)])]
            continue
        words += _option(name, settings[name])
        if isinstance(_at(journal.settings, name), dict):  # one of several kinds, with fields of its own
            for inner, value in settings.items():
                words += _option(inner, value) if inner.startswith(f"{name}.") else []
    sizes = []
    for name, values in journal.swept.items():
        if name not in settings:
            raise ConfigError(f"the environment's {name.removeprefix('env.')} was swept")
        found = list(dict.fromkeys(values))
        sizes.append(len(found))
        words += [_flag(name), ",".join(map(repr, found))]
    if math.prod(sizes or [1]) != journal.configurations:
        raise ConfigError("its sweep has not every combination of its values")
    return words


def _at(settings: Any, name: str) -> Any:
    """The field with a dotted name, as `to_json` wrote it."""
    for part in name.split("."):
        settings = settings[part]
    return settings


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        path, dot, last = name.rpartition(".")
        return [_flag(name if value else f"{path}{dot}no_{last}")]
    if isinstance(value, (list, tuple)):
        return [_flag(name), *_leaves(value)]
    if isinstance(value, str) and value[:1].isupper():  # the name of a class
        return [_flag(name), value.lower()]
    return [_flag(name), str(value)]


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        raise ConfigError("one of its settings is a list of parts")
    return [word for x in value for word in _leaves(x)] if isinstance(value, (list, tuple)) else [str(value)]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _environment(journal: Journal) -> list[str]:
    """Arguments of the environment."""
    env = journal.environment
    arguments = env.get("kwargs") or {}
    if "fields" in env:
        arguments = _fields(env)
    elif "kwargs" not in env and "spaces" not in env:
        raise ConfigError("its environment was an object of yours")
    return ["--env-kwargs", *(f"{name}={_spelled(value)}" for name, value in arguments.items())] if arguments else []


def _fields(described: dict[str, Any]) -> dict[str, Any]:
    """The fields of a JAX environment that differ from those of its id."""
    from thorndike.configuration import to_json
    from thorndike.envs import make

    try:
        usual = to_json(make(described["id"]))
        told = {name: x for name, x in described["fields"].items() if usual.get(name) != x}
        same = to_json(make(described["id"], **told)) == described["fields"] if told else True
    except (ThorndikeError, TypeError, ValueError, AttributeError):
        same, told = False, {}
    if not same:
        raise ConfigError("its environment was an object of yours")
    return told


def _spelled(value: Any) -> str:
    if not isinstance(value, str):
        return repr(value)
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return repr(value)


def _has_preset(journal: Journal) -> bool:
    from thorndike.algorithms import algorithm_class
    from thorndike.presets import preset_for

    return bool(preset_for(algorithm_class(journal.name), journal.environment["id"])[0])
