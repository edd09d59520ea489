"""What a run's directory and its algorithm are told of an environment, and the environment made again from that."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from thorndike.configuration import from_json, require, to_json, type_name
from thorndike.envs import BUILT_IN, built_in, make
from thorndike.envs.adapters.brax import Robot
from thorndike.envs.adapters.gymnax import Gymnax
from thorndike.envs.adapters.pgx import PgxGame
from thorndike.envs.batched import is_jax
from thorndike.envs.wrappers import randomised as domains
from thorndike.envs.wrappers import sensors
from thorndike.envs.wrappers import standard as wrappers
from thorndike.errors import ConfigError
from thorndike.types import Spec


def describe(env: Any, steps: int, name: str) -> Spec:
    """What an algorithm may know of `env`."""
    masked = bool(getattr(env, "masked", False))
    return Spec(env.observation_space, env.action_space, steps, name, masked, env if is_jax(env) else None)


def describe_environment(env: Any, name: str | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """How `run.json` names an environment: by id, by the fields of a JAX one, or not at all."""
    if is_jax(env):
        fields = to_json(env)
        with contextlib.suppress(TypeError):  # a function is nothing that a file can name
            json.dumps(fields)
            return {"id": name or type(env).__name__, "fields": fields}
    if name is not None:
        return {"id": name, "kwargs": kwargs}
    return {"id": getattr(env, "id", type(env).__name__), "object": True}


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
    if "fields" in described:
        modules = (wrappers.__name__, domains.__name__, sensors.__name__)
        around = [cls for cls in wrappers.Wrapper.__subclasses__() if cls.__module__ in modules]
        ours = [*(type(built_in(name)) for name in BUILT_IN), PgxGame, Gymnax, Robot, *around]
        env = from_json(described["fields"], {type_name(cls): cls for cls in [*ours, *classes]})
        require(is_jax(env), f"{described['id']} is described as {str(env)[:80]}, which is no environment")
        return env
    raise ConfigError(
        f"this run's environment ({described['id']}) was an object of yours, which a file cannot name: "
        "give it again, as env=..."
    )
