"""Robots simulated in JAX: Brax (Freeman et al. 2021) and MuJoCo Playground (Zakka et al. 2025)."""

from __future__ import annotations

import json
import subprocess
import warnings
from functools import cache
from typing import Any, Literal

import jax
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict

from thorndike.configuration import check, config, require
from thorndike.envs.wrappers.standard import ActionRepeat
from thorndike.errors import ConfigError, EnvError, UnknownNameError
from thorndike.extras import importing
from thorndike.names import did_you_mean
from thorndike.types import Array, PyTree, Step


@config
class Robot:
    """The simulator's environment `name`, by its own `reset` and `step`: the time limit and the resets are ours.

    `options` are JSON of the arguments of Brax's class ("backend", ...), or the overrides of Playground's
    configuration ("sim_dt", "impl", ...).
    """

    simulator: Literal["brax", "playground"] = "brax"
    name: str = "ant"
    options: str = "{}"
    max_steps: int = 1000

    def check(self) -> None:
        """An episode has at least one step."""
        require(self.max_steps > 0, f"max_steps must be positive, got {self.max_steps}")

    @property
    def observation_space(self) -> Space:
        """A vector, or a dictionary of them; unbounded."""
        return _vectors(self._env.observation_size)

    @property
    def action_space(self) -> Box:
        """Torques or targets, between -1 and 1."""
        return Box(-1.0, 1.0, (self._env.action_size,), np.float32)

    def reset(self, key: Array) -> Step:
        """A robot in its first pose."""
        state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), self._env.reset(key))  # not weakly
        return Step(state, state.obs)

    def step(self, state: PyTree, action: Array, key: Array) -> Step:
        """One control step. Randomness is the simulator's own: `key` is not used."""
        state = self._env.step(state, action)
        return Step(state, state.obs, state.reward, state.done > 0.5)

    @property
    def _env(self) -> Any:
        return load(self.simulator, self.name, self.options)


def make(simulator: Any, name: str, /, max_steps: int | None = None, **options: Any) -> Any:
    """The robot, known to be there; raises `UnknownNameError`, `MissingExtraError`, `ConfigError`.

    Without `max_steps` an episode is as long as Playground's configuration says, 1,000 steps for Brax. Where that
    configuration repeats actions, so does an `ActionRepeat` around the robot.
    """
    try:
        text = json.dumps(options, sort_keys=True)
    except TypeError as error:
        raise ConfigError(f"the options of {name} must be plain values: {error}") from None
    limit, times = 1000, 1
    env = load(simulator, name, text)
    if simulator == "playground":
        limit, times = int(env._config.episode_length), int(env._config.action_repeat)
    robot = Robot(simulator=simulator, name=name, options=text, max_steps=limit if max_steps is None else max_steps)
    check(robot)
    return robot if times == 1 else ActionRepeat(env=robot, times=times)


@cache
def load(simulator: str, name: str, options: str) -> Any:
    """The simulator's own environment."""
    with jax.ensure_compile_time_eval(), warnings.catch_warnings():  # arrays made here must not belong to a trace
        warnings.simplefilter("ignore")  # that Brax is no longer developed
        known = _names(simulator)
        if name not in known:
            raise UnknownNameError(
                f"{simulator} has no environment {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"
            )
        try:
            if simulator == "brax":
                return _brax().get_environment(name, **json.loads(options))
            return _playground().load(name, config_overrides=json.loads(options))
        except (TypeError, KeyError, AttributeError, ValueError, AssertionError) as error:
            raise ConfigError(f"{simulator}'s {name} cannot be made with {options}: {error}") from None
        except (OSError, subprocess.SubprocessError) as error:
            raise EnvError(f"{simulator} could not make {name}, which downloads its robots: {error}") from None


def _names(simulator: str) -> list[str]:
    return list(_brax()._envs) if simulator == "brax" else list(_playground().ALL_ENVS)


def _brax() -> Any:
    with importing("brax", "a robot of Brax's"):
        import brax.envs
    return brax.envs


def _playground() -> Any:
    with importing("mujoco_playground", "a robot of MuJoCo Playground's"):
        from mujoco_playground import registry
    return registry


def _vectors(size: Any) -> Space:
    if isinstance(size, dict) or hasattr(size, "items"):
        return Dict({key: _vectors(inner) for key, inner in size.items()})
    return Box(-np.inf, np.inf, (size,) if isinstance(size, int) else tuple(size), np.float32)
