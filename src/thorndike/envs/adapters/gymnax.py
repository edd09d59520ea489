"""Environments of gymnax 1.x (Lange 2022), compiled: classic control, bsuite, MinAtar and small mazes."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, NamedTuple

import gymnasium.spaces as gym
import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import check, config, require
from thorndike.errors import ConfigError, EnvError, IncompatibleError, MissingExtraError, UnknownNameError
from thorndike.extras import importing
from thorndike.names import did_you_mean
from thorndike.types import Array, PyTree, Step


class Loaded(NamedTuple):
    """gymnax's own environment, its parameters, and its spaces as Gymnasium's."""

    env: Any
    params: Any
    observation_space: gym.Space
    action_space: gym.Space


@config
class Gymnax:
    """gymnax's environment `name`, by its own `step_env` and `reset_env`: the time limit and the resets are ours.

    `options` are pairs of a name and a value: parameters of the environment ("max_steps_in_episode", "gravity") or
    arguments of its class ("size" of DeepSea-bsuite). Its float parameters are the `numbers` that `Randomised` and
    `Curriculum` change, one by one: CartPole's total_mass does not follow its masspole.
    """

    name: str = "CartPole-v1"
    options: tuple = ()

    def check(self) -> None:
        """gymnax has it, and its clock is the one that is counted."""
        for key, value in self.options:
            plain = isinstance(value, (bool, int, float, str, tuple))
            require(plain, f"{key} of gymnax's {self.name} must be a plain value, got {type(value).__name__}")
        env, params = self._loaded[:2]
        for key, value in self.options:
            number = not hasattr(params, key) or isinstance(value, (int, float))
            require(number, f"{key} of gymnax's {self.name} should be a number, got {value!r}")
        if type(env).is_truncated is not _base().is_truncated:
            raise IncompatibleError(f"gymnax's {self.name} ends by a clock of its own, which is not supported")
        limit = params.max_steps_in_episode
        whole = isinstance(limit, (int, float)) and not isinstance(limit, bool) and 1 <= limit < 2**31
        require(whole and int(limit) == limit, f"max_steps_in_episode should be a positive whole number, got {limit!r}")

    @property
    def max_steps(self) -> int:
        """gymnax's own limit, which its `is_truncated` counts too."""
        return int(self._loaded.params.max_steps_in_episode)

    @property
    def observation_space(self) -> gym.Space:
        """gymnax's shapes. Boxes are unbounded float32: some of gymnax's environments leave the bounds they give."""
        return self._loaded.observation_space

    @property
    def action_space(self) -> gym.Space:
        """gymnax's."""
        return self._loaded.action_space

    def reset(self, key: Array) -> Step:
        """The first state of an episode."""
        env, params = self._loaded[:2]
        obs, state = env.reset_env(key, params)
        return Step(state, self._given(obs))

    def step(self, state: PyTree, action: Array, key: Array) -> Step:
        """The state after `action`; it never resets itself."""
        env, params = self._loaded[:2]
        obs, state, reward, terminated, _ = env.step_env(key, state, action, params)
        return Step(state, self._given(obs), jnp.asarray(reward, jnp.float32).reshape(()), terminated)

    @property
    def numbers(self) -> list[str]:
        """The names of its float parameters."""
        return [field.name for field in dataclasses.fields(self._loaded.params) if isinstance(field.default, float)]

    def with_numbers(self, values: dict[str, Any]) -> Gymnax:
        """Itself with other values of some of its `numbers`, which may be traced."""
        before = self.changed if isinstance(self, _Changed) else ()
        return _Changed(name=self.name, options=self.options, changed=(*before, *values.items()))  # type: ignore[call-arg]

    @property
    def _loaded(self) -> Loaded:
        return load(self.name, self.options)

    def _given(self, obs: PyTree) -> PyTree:
        """The observation in its space's shapes and dtypes, which gymnax's own do not always have."""
        return jax.tree.map(
            lambda x, like: jnp.asarray(x, like.dtype).reshape(like.shape), obs, _zeros(self.observation_space)
        )


@config
class _Changed(Gymnax):
    """A `Gymnax` with other numbers."""

    changed: tuple = ()  # pairs of a name and a value

    @property
    def _loaded(self) -> Loaded:
        loaded = load(self.name, self.options)
        return loaded._replace(params=loaded.params.replace(**dict(self.changed)))


def make(name: str, /, **options: Any) -> Gymnax:
    """The environment, known to be there; raises `UnknownNameError`, `MissingExtraError`, `ConfigError`."""
    env = Gymnax(name=name, options=tuple((key, _fixed(value)) for key, value in sorted(options.items())))
    check(env)
    return env


def _fixed(value: Any) -> Any:
    """Lists as tuples, which can be compared and kept."""
    return tuple(map(_fixed, value)) if isinstance(value, (list, tuple)) else value


def _base() -> Any:
    from gymnax.environments.environment import Environment

    return Environment


@cache
def load(name: str, options: tuple) -> Loaded:
    """gymnax's own environment with what belongs to it."""
    with jax.ensure_compile_time_eval():  # arrays made here must not belong to a trace
        with importing("gymnax", f"gymnax/{name}"):
            import gymnax
        if not hasattr(_base(), "is_truncated"):
            raise MissingExtraError('gymnax is too old, it has to be 1.0 or later: pip install "thorndike[gymnax]"')
        known = list(gymnax.registered_envs)
        if name not in known:
            raise UnknownNameError(
                f"gymnax has no environment {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"
            )
        fields: set[str] = set()
        try:
            fields = {field.name for field in dataclasses.fields(gymnax.make(name)[1])}
            env, params = gymnax.make(name, **{key: value for key, value in options if key not in fields})
            params = params.replace(**{key: value for key, value in options if key in fields})
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise ConfigError(
                f"gymnax's {name} cannot be made so: {error}. Its parameters: {', '.join(fields)}"
            ) from None
        except OSError as error:
            raise EnvError(f"gymnax could not make {name}, which downloads its data: {error}") from None
        action_space = _space(env.action_space(params), bounded=True)
        return Loaded(env, params, _space(env.observation_space(params), bounded=False), action_space)


def _space(space: Any, bounded: bool) -> gym.Space:
    """gymnax's space as Gymnasium's."""
    kind = type(space).__name__
    if kind == "Discrete":
        return gym.Discrete(int(space.n))
    if kind == "Box":
        ends = (space.low, space.high) if bounded else (-np.inf, np.inf)
        low, high = (np.broadcast_to(np.asarray(x, np.float32), space.shape) for x in ends)
        return gym.Box(low, high, dtype=np.float32)
    if kind == "Dict":
        return gym.Dict({key: _space(inner, bounded) for key, inner in space.spaces.items()})
    if kind == "Tuple":
        return gym.Tuple([_space(inner, bounded) for inner in space.spaces])
    raise IncompatibleError(f"gymnax's space {space} is not supported")


def _zeros(space: gym.Space) -> PyTree:
    if isinstance(space, gym.Dict):
        return {key: _zeros(inner) for key, inner in space.spaces.items()}
    if isinstance(space, gym.Tuple):
        return tuple(_zeros(inner) for inner in space.spaces)
    return np.zeros(space.shape or (), np.int32 if isinstance(space, gym.Discrete) else space.dtype)
