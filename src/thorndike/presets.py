"""Presets: settings known to work for a pair of algorithm and environment. Each algorithm's class has its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from thorndike.algorithms import algorithm_class
from thorndike.configuration import to_json, type_name
from thorndike.envs import full_id
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
