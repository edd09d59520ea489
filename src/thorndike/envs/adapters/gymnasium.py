"""Gymnasium environments: an id, a class, a function or an instance becomes a batch that resets itself."""

from __future__ import annotations

import contextlib
import copy
import difflib
import importlib
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.envs.goals import HostGoal, has_goals
from thorndike.envs.host.advice import layers, warn_of_rounding, warn_of_statistics
from thorndike.envs.host.batch import HostBatch, cores
from thorndike.envs.host.guard import Overdue, alarm, guarded, in_main_thread, put_away, starts_within, where
from thorndike.envs.host.layout import Layout, stored_space
from thorndike.envs.host.legal import place_of_masks, telling
from thorndike.envs.host.nested import vectored, vectoring
from thorndike.envs.host.registry import portable
from thorndike.envs.host.worker import CATCH, checked_reset
from thorndike.envs.masks import KEY, flat_mask, legal_sample, without_mask
from thorndike.envs.mixed import Mixed, mixed
from thorndike.errors import ConfigError, EnvError, IncompatibleError, UnknownNameError
from thorndike.extras import importing, missing

QUICK = 300e-6  # seconds: a step of the whole batch that takes less is not worth sending to processes

_FAMILIES = {"ALE/": "ale_py", "MiniGrid-": "minigrid", "BabyAI-": "minigrid"}  # which package registers them


class GymnasiumEnvironment:
    """What is known of a Gymnasium environment, and how to make it.

    `source` is an id (`kwargs` go to `gymnasium.make`), a `gymnasium.Env` class or a function that returns an
    environment (`kwargs` go to it), or an environment. An instance serves as it is where one is needed, and
    is never closed; several are deep copies, or made from its `spec` where it cannot be copied. To
    learn the spaces, one environment is made, reset and closed (a user's instance is only reset).

    Legal actions are looked for in the first reset: in `info["action_mask"]`; in `obs["action_mask"]` of a Dict, from
    which the mask is then taken out, and the observation is the other part, or a Dict of the others; in what a method
    `action_masks()` returns.

    Attributes: `id`; `single`, whether the source is an instance; `observation_space` (float64 boxes as float32) and
    `action_space` (Discrete, Box, MultiDiscrete, MultiBinary or Mixed); `masked`, whether it says which actions are
    legal; `max_steps`, the time limit or None; `goal`, what computes rewards for other goals where it shows goals, or
    None.

    Raises `UnknownNameError`, `MissingExtraError`, `IncompatibleError` for spaces that are not supported, `ConfigError`
    for what is no source, `EnvError` if making it or its first reset fails or exits; in a run also if it hangs.
    """

    def __init__(self, source: Any, **kwargs: Any):
        self._instance = source if isinstance(source, gymnasium.Env) else None
        self.single = self._instance is not None
        if isinstance(source, str):
            spec = portable(_spec(source))
            self._given: Callable[..., Any] = partial(gymnasium.make, spec, **{"disable_env_checker": True, **kwargs})
        elif self._instance is not None:
            if kwargs:
                raise ConfigError(f"{', '.join(kwargs)}: an environment that exists already takes no arguments")
        elif callable(source) and not isinstance(source, gymnasium.vector.VectorEnv):
            self._given = partial(source, **kwargs) if kwargs else source
        else:
            raise ConfigError(
                f"{type(source).__name__} is no Gymnasium environment: {_hint(source)}pass an id such as "
                "'CartPole-v1', a class, a function that makes an environment, or an environment"
            )
        self._by_id = isinstance(source, str)
        self._name = source if isinstance(source, str) else _name(source)
        env = source if self._instance is not None else self._made(self._given)
        try:
            self._probe(env)
        finally:
            if self._instance is None:
                put_away(env)

    def _probe(self, env: gymnasium.Env) -> None:
        self.id: str = env.spec.id if env.spec is not None and self._by_id else _called(env)
        self._space, self.action_space = _space(env, "observation_space"), mixed(_space(env, "action_space"))
        self._nested = isinstance(self.action_space, Mixed)
        env = vectored(env) if self._nested else env
        self.max_steps: int | None = _time_limit(env)
        warn_of_statistics(env, self.id)
        if not isinstance(self.action_space, (Discrete, Box, MultiDiscrete, MultiBinary, Mixed)):
            raise IncompatibleError(
                f"{self.id} has the action space {self.action_space}; Discrete, Box, MultiDiscrete, "
                "MultiBinary, and Dict or Tuple of these are supported. "
                "Wrap it in a gymnasium.ActionWrapper that gives one of them."
            )
        Layout(self._space, self.action_space)  # raises for what has no fixed shape
        with guarded(f"{self.id} failed in its first reset"):
            obs, info = checked_reset(env.reset(seed=0))
            with contextlib.suppress(Exception):  # an observation that does not fit its space: stepping says so
                warn_of_rounding(env.observation_space, obs, self.id)
            place = place_of_masks(env, obs, info, self.id)
        self.masked: bool = place is not None
        self.mask_key = KEY if self.masked else None
        self._place = place if place != "info" else None
        self._space = without_mask(self._space) if place == "observation" else self._space
        self.observation_space = stored_space(self._space)
        goals = hasattr(env.unwrapped, "compute_reward") and has_goals(self.observation_space)
        self.goal = HostGoal(self.make_one, self.id, self.observation_space) if goals else None

    def make_one(self, render_mode: str | None = None) -> gymnasium.Env:
        """A new environment, with that render mode if given; raises `ConfigError` where it takes none."""
        if render_mode is None:
            return self._made(self._telling(self._make))
        if self.copyable and _takes_render_mode(self._make):
            return self._made(self._telling(partial(self._make, render_mode=render_mode)))
        if self._instance is None or self.copyable:
            env = self._made(self._telling(self._make))
            if env.render_mode == render_mode:
                return env
            env.close()
        if self._instance is not None:
            raise ConfigError(f"{self.id} was made without render_mode={render_mode!r}: make it with that")
        raise ConfigError(f"{self.id} takes no render_mode: its class or function needs such a parameter")

    def batch(
        self,
        num_envs: int,
        seed: int | Sequence[int] = 0,
        workers: str = "auto",
        timeout: float = 60.0,
        on_error: str = "raise",
        log_info: Sequence[str] = (),
    ) -> HostBatch:
        """`num_envs` copies that step together; see `HostBatch` for seeds, workers and faults.

        "auto" steps one environment, or a quick batch (measured: all its steps below 300 µs), in this thread, and what
        is slower in processes. Where this is not the main thread, and cannot be interrupted, it takes processes, but
        not for a user's own instance. Raises `EnvError` where these steps get no answer.
        """
        if workers == "auto":
            slow = num_envs > 1 and cores() > 1 and self._slow(num_envs, timeout, on_error)
            own = self._instance is not None and num_envs == 1
            workers = "process" if slow or not (own or in_main_thread()) else "serial"
        itself = self._instance is not None and num_envs == 1 and workers != "process"
        return HostBatch(
            self._telling((lambda: self._instance) if itself else self._make),
            self._space,
            self.action_space,
            num_envs,
            seed,
            mask_key=self.mask_key,
            workers=workers,
            timeout=timeout,
            on_error=on_error,
            owned=not itself,
            log_info=log_info,
        )

    def drawing(
        self, seed: int, timeout: float, wrapper: Callable[[gymnasium.Env], gymnasium.Env]
    ) -> tuple[HostBatch, gymnasium.Env]:
        """A batch of one, stepped in this thread, and its environment in `wrapper`, which draws: a user's instance
        itself, where that draws. Raises as `make_one` does."""
        itself = self._instance is not None and self._instance.render_mode == "rgb_array"
        made = self._telling(lambda: self._instance)() if itself else self.make_one(render_mode="rgb_array")
        env = wrapper(made)
        how = {"mask_key": self.mask_key, "timeout": timeout, "owned": not itself}
        return HostBatch(lambda: env, self._space, self.action_space, 1, seed, **how), env  # type: ignore[arg-type]

    @cached_property
    def copyable(self) -> bool:
        """Whether there can be several: not of a user's instance that cannot be copied, such as a robot."""
        try:
            return self._make is not None
        except ConfigError:
            return False

    @cached_property
    def _make(self) -> Callable[..., Any]:
        """What makes a new environment; raises `ConfigError` where a user's instance cannot be copied."""
        if self._instance is None:
            return self._given
        original: Any = self._instance
        try:
            copy.deepcopy(original).close()
        except Exception as error:
            if original.spec is not None:
                limit = None if isinstance(original, gymnasium.Wrapper) else -1  # -1: none, as it has no wrapper
                make = partial(
                    gymnasium.make, portable(original.spec), max_episode_steps=limit, render_mode=original.render_mode
                )
                with contextlib.suppress(Exception):  # such as a wrapper that its spec cannot name
                    make().close()
                    return make
            raise ConfigError(
                f"cannot copy the environment {self._name} ({type(error).__name__}: {error}); "
                "pass its class or a function that makes one, or step it alone, with num_envs=1"
            ) from None
        return partial(copy.deepcopy, original)

    def _telling(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """`make`, of environments that take vectors for nested actions, and that say in `info["action_mask"]` which
        actions are legal, if they do at all."""
        make = partial(vectoring, make) if self._nested else make
        return make if self._place is None else partial(telling, make, self._place)

    def _slow(self, num_envs: int, timeout: float, on_error: str) -> bool:
        """Whether `num_envs` steps, by the median of a few, take longer than `QUICK`."""
        with starts_within(timeout):
            env = self.make_one()
        taken: list[float] = []
        try:
            with alarm(timeout):
                _, info = env.reset(seed=0)
                until = time.perf_counter() + 0.2
                while len(taken) < 30 and time.perf_counter() < until:
                    action = self._random_action(info)
                    start = time.perf_counter()
                    _, _, terminated, truncated, info = env.step(action)
                    taken.append(time.perf_counter() - start)
                    if terminated or truncated:
                        _, info = env.reset()
        except Overdue:
            if on_error == "raise":
                text = f"environment 0 ({self.id}) failed in its first steps: it did not answer in time\n\n{where()}"
                raise EnvError(text) from None
            return True  # to be killed where it hangs
        except CATCH:  # the batch will meet it and say where
            return not taken
        finally:
            put_away(env)
        return num_envs * float(np.median(taken)) > QUICK

    def _random_action(self, info: Mapping) -> Any:
        if not self.masked:
            return self.action_space.sample()
        return legal_sample(self.action_space, flat_mask(info[KEY], self.action_space).astype(bool))

    def _made(self, make: Callable[[], Any]) -> gymnasium.Env:
        with guarded(f"{self._name} could not be made"):
            try:
                env = make()
            except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
                raise missing(self._name, error) from error
        if isinstance(env, gymnasium.Env):
            return env
        hint = _hint(env).removesuffix("; or ")
        raise ConfigError(
            f"{self._name} made a {type(env).__name__}, not a gymnasium.Env" + (f": {hint}" if hint else "")
        )


def _spec(name: str) -> gymnasium.envs.registration.EnvSpec:
    """The registered spec of `name`, the latest where it names no version. Raises `UnknownNameError`."""
    module, _, plain = name.rpartition(":")
    if module:
        own_module(name)
    for prefix, package in _FAMILIES.items():
        if name.startswith(prefix):
            with importing(package, name):
                importlib.import_module(package)
    known = gymnasium.registry
    versions = [spec for spec in known.values() if spec.id.rpartition("-v")[0] == plain]
    if versions and plain not in known:
        return max(versions, key=lambda spec: spec.version or 0)
    try:
        return gymnasium.spec(plain)
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(plain, list(known), n=3, cutoff=0.6)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else str(error)
        raise UnknownNameError(f"Gymnasium has no environment {name!r}. {hint}") from None


def own_module(name: str) -> Any:
    """The module that `name` begins with, imported; raises `UnknownNameError` where Python does not find it."""
    module = name.rpartition(":")[0]
    with guarded(f"the module {module} failed in its import"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise missing(name, error) from error
            where = "is it in the working directory, or installed?"
            raise UnknownNameError(f"{name} is in the module {module!r}, which Python does not find: {where}") from None


def _space(env: gymnasium.Env, which: str) -> gymnasium.Space:
    """A space of the environment; raises `IncompatibleError` where it has none."""
    space, name = getattr(env, which, None), type(env.unwrapped).__name__
    if isinstance(space, gymnasium.Space):
        return space
    has = f"has no {which}" if space is None else f"has a {type(space).__module__}.{type(space).__name__} as {which}"
    raise IncompatibleError(f"{name} {has}: set self.{which} to a space of gymnasium.spaces in its __init__")


def _hint(env: Any) -> str:
    """What to do with what is no `gymnasium.Env`; "" where that is not known."""
    if isinstance(env, gymnasium.vector.VectorEnv):
        return "it is a batch already, and batches are made here, num_envs of the algorithm: give one of them; or "
    if hasattr(env, "possible_agents"):
        return "give td.ParallelEnvironment(its function); or "
    if hasattr(env, "reset") and hasattr(env, "step"):
        return (
            "derive its class from gymnasium.Env, whose reset(seed, options) returns (obs, info) and step(action) "
            "(obs, reward, terminated, truncated, info); a JAX environment is a class with @td.config; or "
        )
    return ""


def _time_limit(env: gymnasium.Env) -> int | None:
    limits = [layer for layer in layers(env) if isinstance(layer, gymnasium.wrappers.TimeLimit)]
    return limits[0]._max_episode_steps if limits else None


def _takes_render_mode(source: Callable) -> bool:
    try:
        parameters = inspect.signature(source).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == "render_mode" or p.kind is p.VAR_KEYWORD for p in parameters)


USUAL = ("OrderEnforcing", "PassiveEnvChecker", "TimeLimit")  # wrappers that `gymnasium.make` puts around all


def _called(env: gymnasium.Env) -> str:
    """An environment by its id or class, with the wrappers around it: "TransformReward(CartPole-v1)"."""
    wrappers, inner = [], env
    while isinstance(inner, gymnasium.Wrapper):
        wrappers.append(type(inner).__name__)
        inner = inner.env
    name = env.spec.id if env.spec is not None else type(inner).__name__
    for wrapper in reversed([wrapper for wrapper in wrappers if wrapper not in USUAL]):
        name = f"{wrapper}({name})"
    return name


def _name(source: Any) -> str:
    if isinstance(source, gymnasium.Env):
        return source.spec.id if source.spec is not None else type(source.unwrapped).__name__
    return getattr(source, "__name__", type(source).__name__)
