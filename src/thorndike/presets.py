"""Presets: settings known to work for a pair of algorithm and environment. Each algorithm's class has its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from thorndike.algorithms import algorithm_class


def preset_for(cls: type, env: str | None) -> tuple[dict[str, Any], int | None]:
    """Field values and steps for a class and an environment's id; ({}, None) where nothing is known.

    What is known of `CartPole-v1` holds for `gymnasium/CartPole-v1` too; what is known of a whole id only for that.
    """
    found = entry_for(cls.presets() if hasattr(cls, "presets") else {}, env or "")
    return found, found.pop("steps", None)


def entry_for(table: dict[str, dict[str, Any]], env: str) -> dict[str, Any]:
    """What an algorithm's table of presets has for an environment's id, {} where it has nothing."""
    return dict(table.get(env) or table.get(env.split("/")[-1], {}))


def preset(algorithm: str | type, env: str, **changes: Any) -> Any:
    """An algorithm with its preset for an environment, and with changes: `td.preset("ppo", "CartPole-v1", clip=0.1)`.

    Args:
        algorithm: a name ("ppo") or a class.
        env: the environment's id; where there is no preset for it, these are the defaults.
        **changes: fields of the algorithm.

    Returns:
        A value for `td.train`, which then needs its number of steps said.
    """
    cls = algorithm_class(algorithm) if isinstance(algorithm, str) else algorithm
    return dataclasses.replace(cls(), **{**preset_for(cls, env)[0], **changes})  # type: ignore[type-var]
