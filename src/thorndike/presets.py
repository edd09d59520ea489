"""Presets: settings known to work for a pair of algorithm and environment. Each algorithm's class has its own; others
are in files, as tuning writes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from thorndike.algorithms import algorithm_class
from thorndike.configuration import from_json, to_json, type_name
from thorndike.envs import full_id
from thorndike.errors import CheckpointError, ConfigError, require
from thorndike.files import read_json, write_json
from thorndike.settings import changes, flat


def presets_of(cls: type) -> dict[str, dict[str, Any]]:
    """The environments that an algorithm has presets for, and these."""
    return cls.presets() if hasattr(cls, "presets") else {}


def preset_for(cls: type, env: str | None) -> tuple[dict[str, Any], int | None]:
    """Field values and steps for a class and an environment's id; ({}, None) where nothing is known.

    What is known of `CartPole-v1` holds for `gymnasium/CartPole-v1` and for `CartPole` too; what is known of a whole id
    only for that.
    """
    found = dict(_preset(cls, env) or {})
    return found, found.pop("steps", None)


def has_preset(cls: type, env: str | None) -> bool:
    """Whether settings for a class and an environment's id are known, be they the defaults."""
    return _preset(cls, env) is not None


def _preset(cls: type, env: str | None) -> dict[str, Any] | None:
    table, env = presets_of(cls), full_id(env) if isinstance(env, str) else ""
    return table.get(env, table.get(env.split("/")[-1]))


def based_on(algorithm: Any, env: str | None) -> tuple[str, dict[str, Any]]:
    """Whether an algorithm's settings are nearer to the "preset" for an environment or to the "defaults", and the flat
    settings that differ from these; ("", {}) for a class of one's own."""
    cls = type(algorithm)
    if type_name(cls) != cls.__name__:
        return "", {}
    bases = {"defaults": cls()}
    if preset_for(cls, env)[0]:
        bases["preset"] = preset(cls, env or "")
    settings = flat(to_json(algorithm))
    found = {name: changes(settings, flat(to_json(base))) for name, base in bases.items()}
    nearest = min(found, key=lambda name: len(found[name]))
    return nearest, found[nearest]


def preset(algorithm: str | type, env: str, **changes: Any) -> Any:
    """An algorithm with its preset for an environment, and with changes: `td.preset("ppo", "CartPole-v1", clip=0.1)`.

    Args:
        algorithm: a name ("ppo") or a class.
        env: the environment's id; where there is no preset for it, as for what is no id, these are the defaults.
        **changes: fields of the algorithm.

    Returns:
        A value for `td.train`, which then needs its number of steps said.
    """
    cls = algorithm_class(algorithm) if isinstance(algorithm, str) else algorithm
    return dataclasses.replace(cls(), **{**preset_for(cls, env)[0], **changes})  # type: ignore[type-var]


def write_preset(path: str | Path, algorithm: Any, env: str, steps: int) -> None:
    """Write an algorithm's settings, and what they are for, as a file that `read_preset` reads."""
    write_json(Path(path).expanduser(), {"preset": 1, "algorithm": to_json(algorithm), "env": env, "steps": steps})


def read_preset(path: str | Path, cls: type) -> tuple[dict[str, Any], int | None]:
    """Field values for a class of algorithms, and steps, from a file.

    Raises:
        ConfigError: there is no such file, it is no preset, or another algorithm's.
    """
    from thorndike.exports import known_configs

    path = Path(path).expanduser()
    require(path.is_file(), f"there is no preset {path}: give the file that td.tune (thorndike tune) wrote")
    try:
        data = read_json(path)
        require(isinstance(data, dict) and data.get("preset") == 1, f"{path} is no preset: td.tune writes such")
        name, steps = str(data["algorithm"]["type"]).removeprefix("own "), data["steps"]
        require(name == cls.__name__, f"{path} has settings of {name}, and this is {cls.__name__}: name that algorithm")
        found = from_json(data["algorithm"], known_configs(cls))
    except (CheckpointError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is no preset: {error}") from None
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return fields, steps if isinstance(steps, int) and steps > 0 else None
