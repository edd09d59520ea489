"""The options of a training: what can be wrong with each, and how `run.json` keeps them."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from thorndike.configuration import require
from thorndike.envs.batched import is_jax

MOST_STEPS = 2_000_000_000  # which are counted in 32 bits


def whole_steps(steps: Any) -> int:
    """`steps` as a number of Python's, also where it was written 1e6; raises `ConfigError`."""
    number = isinstance(steps, (int, float, np.integer, np.floating)) and not isinstance(steps, bool)
    require(number and steps > 0 and steps % 1 == 0, f"steps must be a positive whole number, got {steps!r}")
    require(steps <= MOST_STEPS, f"steps must be at most {MOST_STEPS:,} for each run, got {int(steps):,}")
    return int(steps)


def validate_options(
    *,
    seed: int,
    seeds: int,
    log_every: Any,
    evaluate_every: Any,
    evaluate_episodes: Any,
    checkpoint_every: Any,
    checkpoint_steps: Any,
    keep: Any,
) -> None:
    """What else can be wrong before a run starts."""
    is_whole = isinstance(seed, int) and 0 <= seed <= 2**31 - seeds
    require(is_whole, f"seed must be a whole number from 0 to 2**31 - seeds, got {seed!r}")
    intervals = {"log_every": log_every, "evaluate_every": evaluate_every, "checkpoint_steps": checkpoint_steps}
    for name, steps in intervals.items():
        require(steps is None or _positive(steps), f"{name} must be a positive number of steps, got {steps!r}")
    require(_whole(evaluate_episodes), f"evaluate_episodes must be a positive whole number, got {evaluate_episodes!r}")
    seconds = _number(checkpoint_every) and checkpoint_every >= 0
    require(seconds, f"checkpoint_every is seconds, 0 or more, got {checkpoint_every!r}")
    require(_whole(keep), f"keep must be a positive whole number, got {keep!r}")


def _number(x: Any) -> bool:
    return isinstance(x, (int, float, np.integer, np.floating)) and not isinstance(x, bool)


def _positive(x: Any) -> bool:
    return _number(x) and 0 < float(x) < math.inf


def _whole(x: Any) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool) and int(x) > 0


def rollouts(steps: float, chunk: int) -> int:
    """The nearest number of whole rollouts, of `chunk` steps each; at least one."""
    return max(1, round(steps / chunk))


def validate_stepping(workers: str, timeout: float, on_error: str) -> None:
    """What can be wrong with how environments on the host are stepped."""
    known = ("auto", "serial", "process")
    require(workers in known, f"workers must be one of {', '.join(known)}, got {workers!r}")
    seconds = isinstance(timeout, (int, float)) and timeout > 0
    require(seconds, f"env_timeout is seconds, more than 0, got {timeout!r}")
    require(on_error in ("raise", "restart"), f'on_env_error must be "raise" or "restart", got {on_error!r}')


def validate_restarts(env: Any, on_error: str) -> None:
    """What cannot be restarted is not to be."""
    restarts = on_error == "raise" or getattr(env, "restartable", not is_jax(env))
    why = "they are part of the compiled program" if is_jax(env) else "they are not made one by one"
    require(restarts, f'these environments cannot be restarted, {why}: on_env_error has to be "raise"')


def logged(env: Any, names: Any) -> list[str]:
    """The names of numbers in `info` that are to be logged."""
    names = [names] if isinstance(names, str) else list(names)
    require(all(isinstance(name, str) and name for name in names), f"log_info names numbers in info, got {names}")
    knows = not is_jax(env) and "log_info" in inspect.signature(env.batch).parameters
    why = 'a JAX environment names them itself, in Step(info={"log": {...}})' if is_jax(env) else "it shows no info"
    require(knows or not names, f"log_info is for Gymnasium's environments, and {type(env).__name__} is another: {why}")
    return names


def validate_name(name: Any) -> None:
    """A text that fits into a line."""
    fits = name is None or (isinstance(name, str) and name.isprintable() and 0 < len(name.strip()) <= 100)
    require(fits, f"name must be a text of 1 to 100 characters, got {name!r}")


def validate_goals(stop_at: Any, patience: Any, evaluates: bool) -> None:
    """A return to reach, and a number of evaluations, which there have to be."""
    finite = stop_at is None or (_number(stop_at) and math.isfinite(stop_at))
    require(finite, f"stop_at must be a return, a finite number, got {stop_at!r}")
    require(patience is None or _whole(patience), f"patience must be a positive whole number, got {patience!r}")
    require(patience is None or evaluates, "patience counts evaluations: give evaluate_every, too")


def validate_games(env: Any, evaluate_every: Any, episodes: int) -> None:
    """A match has a game that each side begins."""
    alone = getattr(env, "players", 1) == 1
    require(alone or evaluate_every is None or episodes > 1, "evaluate_episodes must be at least 2 in a game of two")
