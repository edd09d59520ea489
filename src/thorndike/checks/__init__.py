"""`td.check`: whether an environment or an algorithm of your own keeps its contract, question by question."""

from __future__ import annotations

from typing import Any

from thorndike.checks.report import Report
from thorndike.configuration import is_config
from thorndike.envs.batched import is_jax
from thorndike.errors import ConfigError


def check(thing: Any, **kwargs: Any) -> Report:
    """Try an environment or an algorithm out.

    Args:
        thing: a JAX environment; a `gymnasium.Env` class, factory, instance or id; or an algorithm (a value or class).
        **kwargs: for an environment's constructor.

    Returns:
        A report that prints itself: `report.ok`, and a line for each thing that was asked. A fault does not raise.

    Raises:
        ConfigError: `thing` is neither.
    """
    if is_config(thing) and isinstance(thing, type):
        thing, kwargs = thing(**kwargs), {}
    if is_config(thing) and hasattr(thing, "act"):
        from thorndike.checks.algorithm import check_algorithm

        return check_algorithm(thing)
    if is_jax(thing) or isinstance(thing, str) or callable(thing) or hasattr(thing, "step"):
        from thorndike.checks.environment import check_environment

        return check_environment(thing, kwargs)
    raise ConfigError(f"{thing!r} is neither an environment nor an algorithm")
