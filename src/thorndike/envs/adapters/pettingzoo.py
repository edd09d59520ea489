"""PettingZoo's parallel environments (Terry et al. 2021): agents are an axis, and for independent learners, rows."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from thorndike.envs.host.guard import guarded, in_main_thread, put_away
from thorndike.envs.host.layout import Fault, leaf_of
from thorndike.envs.masks import KEY, take_mask, without_mask
from thorndike.errors import ConfigError, IncompatibleError, MissingExtraError, UnknownNameError
from thorndike.extras import importing, missing
from thorndike.names import did_you_mean

PACKAGES = ("mpe2", "pettingzoo.butterfly", "pettingzoo.sisl", "pettingzoo.classic", "pettingzoo.atari")


class ParallelEnvironment:
    """A PettingZoo environment as independent learners with shared parameters see it: each agent is a row of the batch.

    `source` is a function that makes a `ParallelEnv`, such as `mpe2.simple_spread_v3.parallel_env`; `kwargs` go to it.
    All agents see and act through one space: shorter vectors are padded with zeros, actions that an agent has not are
    masked, and with `agent_ids` a one-hot of the agent is put behind its vector. An agent that is out sees zeros and
    earns nothing until the episode ends, which it does for all agents at once: by truncation if any of them was cut.
    Returns are per agent.

    Raises `IncompatibleError` where spaces do not fit together, `ConfigError` if `source` makes something else,
    `EnvError` if its first reset fails.
    """

    draws = False

    def __init__(self, source: Callable[..., Any], agent_ids: bool = True, name: str = "", **kwargs: Any):
        if not callable(source):
            raise ConfigError(f"{source!r} is not a function that makes a ParallelEnv: give its parallel_env itself")
        make = partial(source, **kwargs)
        self.id = name or getattr(source, "__name__", type(source).__name__)
        with guarded(f"{self.id} could not be made"):
            try:
                env = make()
            except ImportError as error:
                raise missing(self.id, error) from error
            except Exception as error:
                raise ConfigError(f"{self.id} cannot be made with {kwargs}: {type(error).__name__}: {error}") from None
        parallel = hasattr(env, "possible_agents") and hasattr(env, "observation_space")
        if not parallel or hasattr(env, "agent_iter"):
            raise ConfigError(f"{self.id} made a {type(env).__name__}, not a PettingZoo ParallelEnv: give parallel_env")
        self.id = name or getattr(env, "metadata", {}).get("name") or self.id
        try:
            self.agents = len(env.possible_agents)
            seen = [env.observation_space(agent) for agent in env.possible_agents]
            acted = [env.action_space(agent) for agent in env.possible_agents]
            with guarded(f"{self.id} failed in its first reset"):
                _, infos = env.reset(seed=0)
        finally:
            put_away(env)
        self.action_space = _common_action(acted, self.id)
        observation = _common_observation([_seen(space) for space in seen], self.id)
        unequal = isinstance(self.action_space, Discrete) and len({int(space.n) for space in acted}) > 1
        masks = [_legal(None, _of(infos, agent)) for agent in env.possible_agents]
        told = isinstance(self.action_space, Discrete) and any(mask is not None for mask in masks)
        for mask, space in zip(masks, acted):
            if told and mask is not None and mask.shape != (space.n,):
                raise IncompatibleError(f"{self.id}: an action_mask in infos has shape {mask.shape}, not ({space.n},)")
        self.masked = unequal or told or any(_seen(space) is not space for space in seen)
        ids = agent_ids and len(observation.shape) == 1 and self.agents > 1
        if ids:
            observation = Box(-np.inf, np.inf, (observation.shape[0] + self.agents,), np.float32)
        self.observation_space = observation
        self._make = partial(World, make, observation, self.action_space, ids, self.masked)
        self.max_steps: int | None = None

    def batch(
        self,
        num_envs: int,
        seed: int | Sequence[int] = 0,
        workers: str = "auto",
        timeout: float = 60.0,
        on_error: str = "raise",
    ) -> AgentRows:
        """`num_envs` agents, those of one world in succession; see `HostBatch` for the rest.

        Raises `ConfigError` where these are not whole worlds.
        """
        from thorndike.envs.host.batch import HostBatch, cores

        if num_envs % self.agents:
            fitting = -(-num_envs // self.agents) * self.agents
            raise ConfigError(f"{self.id} has {self.agents} agents, so num_envs must be a multiple: {fitting}, say")
        worlds = num_envs // self.agents
        if workers == "auto":
            workers = "serial" if in_main_thread() and (worlds == 1 or cores() == 1) else "process"
        space = self.action_space
        action: Space
        if isinstance(space, Discrete):
            action = MultiDiscrete([int(space.n)] * self.agents)
        else:
            action = Box(*(np.stack([bound] * self.agents) for bound in (space.low, space.high)), dtype=space.dtype)
        observation = Box(-np.inf, np.inf, (self.agents, *self.observation_space.shape), np.float32)
        if self.observation_space.dtype == np.uint8:
            observation = Box(0, 255, observation.shape, np.uint8)
        batch = HostBatch(
            self._make,
            observation,
            action,
            worlds,
            seed,
            mask_key=KEY if self.masked else None,
            workers=workers,
            timeout=timeout,
            on_error=on_error,
            agents=self.agents,
        )
        return AgentRows(batch, self.agents)


class AgentRows:
    """A `HostBatch` of worlds [E, N, ...] with its agents in rows [E·N, ...]; all of a world end together."""

    def __init__(self, worlds: Any, agents: int):
        self.worlds, self.agents, self.num_envs = worlds, agents, worlds.num_envs * agents

    def reset(self) -> Any:
        """The first timestep [E·N, ...]."""
        return self._rows(self.worlds.reset())

    def step(self, action: Any) -> Any:
        """The timestep after `action` [E·N, ...]."""
        action = np.asarray(action)
        if len(action) != self.num_envs:
            raise ConfigError(f"action has shape {action.shape}, this batch needs ({self.num_envs},)")
        return self._rows(self.worlds.step(action.reshape((self.worlds.num_envs, self.agents, *action.shape[1:]))))

    def close(self) -> None:
        """Close the worlds."""
        self.worlds.close()

    @property
    def restarts(self) -> int:
        """How often a world was rebuilt."""
        return self.worlds.restarts

    @property
    def dropped(self) -> np.ndarray:
        """Of which agents the last step dropped the episode [E·N]."""
        return np.repeat(self.worlds.dropped, self.agents)

    @property
    def last_fault(self) -> str:
        """Why a world was last rebuilt."""
        return self.worlds.last_fault

    def __enter__(self) -> AgentRows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, now: Any) -> Any:
        def rows(x):
            return x.reshape((self.num_envs, *x.shape[2:]))

        info = {key: mask.reshape((self.num_envs, -1)) for key, mask in now.info.items()}
        ends = {key: np.repeat(getattr(now, key), self.agents) for key in ("terminated", "truncated", "first")}
        return now._replace(
            obs=rows(now.obs), final_obs=rows(now.final_obs), reward=rows(now.reward), info=info, **ends
        )


class World:
    """A `ParallelEnv` in Gymnasium's terms: what agents see, do and earn has a leading axis [N]."""

    def __init__(self, make: Callable[[], Any], observation: Box, action: Space, ids: bool, masked: bool):
        self.env, self.space, self.action, self.ids, self.masked = make(), observation, action, ids, masked
        self.agents = list(self.env.possible_agents)
        own = {agent: _seen(self.env.observation_space(agent)) for agent in self.agents}
        self.leaves = {agent: leaf_of(space, f"observation of {agent!r}") for agent, space in own.items()}
        self.cut = False  # whether an agent's episode was, while the others may go on

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        """Observations [N, ...] and masks."""
        obs, infos = self.env.reset(seed=seed, options=options)
        self.cut = False
        return self._seen(obs, infos)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool, bool, dict]:
        """Observations [N, ...], rewards [N], and how the episode ended for all, if it did."""
        playing = list(self.env.agents)
        actions = {agent: self._own(agent, action[self.agents.index(agent)]) for agent in playing}
        obs, rewards, terminations, truncations, infos = self.env.step(actions)
        over = not self.env.agents or all(terminations.get(agent) or truncations.get(agent) for agent in playing)
        self.cut |= any(truncations[agent] and not terminations.get(agent) for agent in truncations)
        for agent in playing:
            if agent not in rewards:
                raise Fault(f"{agent!r} has played, and rewards do not say what it earned")
        earned = np.array([rewards.get(agent, 0.0) for agent in self.agents])
        seen, info = self._seen(obs, infos)
        return seen, earned, over and not self.cut, over and self.cut, info

    def close(self) -> None:
        """Close it."""
        self.env.close()

    def _own(self, agent: Any, action: Any) -> Any:
        space = self.env.action_space(agent)
        return int(action) + int(space.start) if isinstance(space, Discrete) else action

    def _seen(self, obs: dict, infos: dict) -> tuple[np.ndarray, dict]:
        out = np.zeros((len(self.agents), *self.space.shape), self.space.dtype)
        masks = np.ones((len(self.agents), int(self.action.n)), bool) if self.masked else None  # type: ignore[attr-defined]
        for i, agent in enumerate(self.agents):
            if self.ids:
                out[i, -len(self.agents) + i] = 1.0
            if masks is not None:
                masks[i, int(self.env.action_space(agent).n) :] = False
            if agent not in obs:
                if agent in self.env.agents:
                    raise Fault(f"{agent!r} is among its agents, and observations do not say what it sees")
                continue
            value, legal = obs[agent], _legal(obs[agent], _of(infos, agent))
            if masks is not None and legal is not None and legal.any():
                actions = int(self.env.action_space(agent).n)
                if legal.shape != (actions,):
                    raise Fault(f"the action_mask of {agent!r} has shape {legal.shape}, its space says ({actions},)")
                masks[i, :actions] &= legal
            value = self.leaves[agent].check(take_mask(value)[0] if isinstance(value, Mapping) else value)
            if value.ndim == 1:
                out[i, : len(value)] = value
            else:
                out[i] = value
        return out, {} if masks is None else {KEY: masks.ravel()}


def make(name: str, /, **kwargs: Any) -> ParallelEnvironment:
    """The environment `name`, such as "simple_spread_v3", of PettingZoo or mpe2."""
    known = {module: package for package in PACKAGES for module in _modules(package)}
    if not known:
        raise MissingExtraError('PettingZoo is not installed: pip install "thorndike[pettingzoo]"')
    if name not in known:
        raise UnknownNameError(f"PettingZoo and mpe2 have no environment {name!r}{did_you_mean(name, known)}")
    with importing(known[name], name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(f"{known[name]}.{name}")
    if not hasattr(module, "parallel_env"):
        raise IncompatibleError(f"{name} has no parallel_env: its agents take turns, which is not supported")
    return ParallelEnvironment(module.parallel_env, name=name, **kwargs)


def _modules(package: str) -> list[str]:
    """Names of the versioned environments of an installed package."""
    try:
        spec = importlib.util.find_spec(package)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package.partition(".")[0]:
            return []
        raise missing(package, error, package.partition(".")[0]) from error
    places = spec.submodule_search_locations if spec is not None else None
    return [found.name for found in pkgutil.iter_modules(places) if re.search(r"_v\d+$", found.name)] if places else []


def _of(infos: Any, agent: Any) -> Any:
    """What `infos`, which is not always a dictionary, says of an agent."""
    return infos.get(agent) if isinstance(infos, Mapping) else None


def _legal(obs: Any, info: Any) -> np.ndarray | None:
    """An agent's legal actions, which PettingZoo's environments show beside the observation, or in `infos`."""
    for place in (obs, info):
        if isinstance(place, Mapping) and KEY in place:
            return np.asarray(place[KEY], bool)
    return None


def _seen(space: Space) -> Space:
    """The observation itself, where it comes with its legal actions."""
    masked = isinstance(space, Dict) and len(space.spaces) == 2 and KEY in space.spaces
    return without_mask(space) if masked else space


def _common_observation(spaces: list[Space], name: str) -> Box:
    boxes = all(isinstance(space, Box) for space in spaces)
    if boxes and all(len(space.shape) == 1 for space in spaces):
        return Box(-np.inf, np.inf, (max(space.shape[0] for space in spaces),), np.float32)
    if boxes and len({(space.shape, space.dtype) for space in spaces}) == 1:
        if spaces[0].dtype == np.uint8:
            return Box(0, 255, spaces[0].shape, np.uint8)
        return Box(-np.inf, np.inf, spaces[0].shape, np.float32)
    raise IncompatibleError(f"{name}: agents must see vectors, or images of one shape; they see {_some(spaces)}")


def _common_action(spaces: list[Space], name: str) -> Any:
    if all(isinstance(space, Discrete) for space in spaces):
        return Discrete(max(int(space.n) for space in spaces))
    if isinstance(spaces[0], Box) and all(space == spaces[0] for space in spaces):
        return spaces[0]
    raise IncompatibleError(f"{name}: agents must have Discrete actions, or one Box; they have {_some(spaces)}")


def _some(spaces: list[Space]) -> str:
    return " and ".join(sorted({str(space) for space in spaces})[:3])
