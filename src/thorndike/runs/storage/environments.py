"""What a run's directory and its algorithm are told of an environment, and the environment made again from that."""

from __future__ import annotations

import contextlib
import json
import reprlib
import sys
from typing import Any

import numpy as np

from thorndike.configuration import from_json, require, to_json
from thorndike.envs import make
from thorndike.envs.batched import is_jax, is_masked
from thorndike.envs.goals import goal_of
from thorndike.envs.recorded import Recorded
from thorndike.errors import ConfigError
from thorndike.exports import known_configs
from thorndike.runs.storage.spaces import space_from_json, space_to_json
from thorndike.types import Spec

MOST = 1_000_000  # bytes that an argument of an environment may have as JSON


def describe(env: Any, steps: int, name: str) -> Spec:
    """What an algorithm may know of `env`."""
    model = env if is_jax(env) else None
    limit = getattr(env, "max_steps", None)
    horizon = None if limit is None else int(np.max(limit))  # a sweep may have several
    return Spec(env.observation_space, env.action_space, steps, name, is_masked(env), model, horizon, goal_of(env))


def describe_environment(env: Any, name: str | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """How `run.json` names an environment: by id, by the fields of a JAX one, by spaces alone, or not at all."""
    if is_jax(env):
        fields = to_json(env)
        with contextlib.suppress(TypeError):  # a function is nothing that a file can name
            json.dumps(fields)
            return {"id": name or type(env).__name__, "fields": fields}
    if isinstance(env, Recorded):
        spaces = {"observation": space_to_json(env.observation_space), "action": space_to_json(env.action_space)}
        return {"id": env.id, "spaces": spaces, "masked": env.masked}
    if name is not None:
        return {"id": name, "kwargs": kwargs}
    return {"id": getattr(env, "id", type(env).__name__), "object": True}


def check_kept(described: dict[str, Any]) -> None:
    """Raise `ConfigError` where the arguments of an environment cannot be kept in `run.json`: arrays, functions."""
    for name, value in described.get("kwargs", {}).items():
        try:
            large = len(json.dumps(value)) > MOST
            why = f"it has more than {MOST:,} bytes of JSON" if large else ""
        except (TypeError, ValueError) as error:
            why = str(error)
        if why:
            short = " ".join(reprlib.repr(value).split())
            raise ConfigError(
                f"the environment's argument {name}={short} cannot be kept in run.json: {why}. Give plain values, or, "
                f"in the place of the id, a function: lambda: gymnasium.make({described['id']!r}, {name}=...)"
            )


def remake(described: dict[str, Any], classes: Any = ()) -> Any:
    """The environment that `describe_environment` described; raises `ConfigError` where it has to be given."""
    if "kwargs" in described:
        module, colon, _ = described["id"].partition(":")
        if colon and module not in sys.modules:
            raise ConfigError(
                f"this run's environment ({described['id']}) is in the module {module!r}, and opening a run imports "
                f"none: give it, env={described['id']!r} (--env {described['id']}), or import {module} first"
            )
        return make(described["id"], **described["kwargs"])
    if "spaces" in described:
        seen, done = (space_from_json(described["spaces"][name]) for name in ("observation", "action"))
        return Recorded(seen, done, described["id"], described["masked"])
    if "fields" in described:
        env = from_json(described["fields"], known_configs(classes))
        require(is_jax(env), f"{described['id']} is described as {str(env)[:80]}, which is no environment")
        return env
    raise ConfigError(
        f"this run's environment ({described['id']}) was an object of yours, which a file cannot name: "
        "give it again, as env=..."
    )
