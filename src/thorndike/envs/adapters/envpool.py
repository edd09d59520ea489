"""EnvPool (Weng et al. 2022): Atari, MuJoCo, DeepMind Control and more, stepped by threads of its own in C++."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from thorndike.configuration import require
from thorndike.envs.batched import to_environment
from thorndike.envs.host.layout import Layout, Leaf, leaf_of, stored_space
from thorndike.envs.host.worker import env_seeds
from thorndike.errors import ConfigError, EnvError, IncompatibleError, UnknownNameError
from thorndike.extras import importing
from thorndike.names import did_you_mean
from thorndike.types import PyTree, Timestep

_LEAST = {
    **dict.fromkeys(("max_episode_steps", "stack_num", "frame_skip", "img_height", "img_width"), 1),
    **dict.fromkeys(("num_threads", "noop_max"), 0),
}
_OURS = ("num_envs", "batch_size", "seed", "env_seed", "max_num_players", "gym_reset_return_info")
_REWARD = Leaf("reward", (), np.dtype(np.float32), np.dtype(np.float32))
_LEARNING = ("episodic_life", "reward_clip")  # what Atari's preprocessing does to make learning easier


class EnvPoolEnvironment:
    """EnvPool's task `name`; `options` are the task's (`frame_skip`, `max_episode_steps`, `num_threads`, ...).

    Atari comes as it is usually learned: 84 x 84 grey images, four stacked, each action held for four frames, up to 30
    no-ops at the start, and, unless `options` say otherwise, an episode for each life and rewards of -1, 0 or 1.
    Evaluation plays whole games for their own score: see `evaluation`.
    """

    masked = False
    restartable = False
    draws = False

    def __init__(self, name: str, /, **options: Any):
        envpool = _envpool()
        known = envpool.list_all_envs()
        if name not in known:
            hint = did_you_mean(name, known) or "; see envpool.list_all_envs()"
            raise UnknownNameError(f"EnvPool has no task {name!r}{hint}")
        fields = envpool.make_spec(name).config._fields
        fields = [field for field in fields if field not in _OURS]
        unknown = [key for key in options if key not in fields]
        if unknown:
            raise ConfigError(f"EnvPool's {name} has no option {', '.join(unknown)}; it has {', '.join(fields)}")
        for key, value in options.items():  # with some of these EnvPool would end the process
            least = _LEAST.get(key)
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if least is not None and not (whole and value >= least):
                raise ConfigError(f"{key} should be a whole number from {least}, got {value!r}")
        learning = {key: True for key in _LEARNING if key in fields}
        self.id, self.options = name, {**learning, **options}
        self.whole_games = False
        self.max_steps: int | None = None  # until it is known
        pool = self._pool(1, [0])
        self.max_steps = int(pool.spec.config.max_episode_steps)
        if pool.spec.config.max_num_players > 1:
            raise IncompatibleError(f"EnvPool's {name} is for several players, which is not supported")
        space, self.action_space = pool.observation_space, pool.action_space
        if not isinstance(self.action_space, (Box, Discrete, MultiDiscrete)):
            raise IncompatibleError(f"EnvPool's {name} has the action space {self.action_space}")
        Layout(space, self.action_space)  # raises for what has no fixed shape
        self.observation_space = stored_space(space)

    @property
    def evaluation(self) -> EnvPoolEnvironment:
        """The task for its own score: rewards as they are, a game over when it is over.

        Where learning sees an episode for each life, each still begins as it did then (a ball is fired, say).
        """
        unclipped = {"reward_clip": False} if "reward_clip" in self.options else {}
        env = EnvPoolEnvironment(self.id, **{**self.options, **unclipped})
        env.whole_games = True
        return env

    def batch(
        self,
        num_envs: int,
        seed: int | Sequence[int] = 0,
        workers: str = "auto",
        timeout: float = 60.0,
        on_error: str = "raise",
    ) -> EnvPoolBatch:
        """`num_envs` environments that step together, the i-th seeded as in `HostBatch`.

        EnvPool's threads can neither be chosen nor stopped here: `workers` and `timeout` mean nothing to it, and
        `on_error` has to be "raise".
        """
        if on_error != "raise":
            raise ConfigError(
                f'EnvPool cannot restart an environment: on_env_error has to be "raise", not {on_error!r}'
            )
        require(isinstance(num_envs, int) and num_envs > 0, f"num_envs must be positive, got {num_envs!r}")
        return EnvPoolBatch(self, self._pool(num_envs, env_seeds(seed, num_envs)))

    def _pool(self, num_envs: int, seeds: Sequence[int]) -> Any:
        how = {"env_type": "gymnasium", "num_envs": num_envs, "batch_size": num_envs, "seed": list(seeds)}
        options = dict(self.options)
        if self.max_steps is not None:  # which is counted here: EnvPool takes an end at its limit for a truncation
            options["max_episode_steps"] = min(self.max_steps + 1, 2**31 - 1)  # which is no limit to it
        try:
            with _quiet():
                pool = _envpool().make(self.id, **how, **options)
                pool.observation_space, pool.action_space  # noqa: B018  # made, with these warnings, when first asked for
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"EnvPool cannot make {self.id} with {self.options}: {reason}") from None
        return pool


make = EnvPoolEnvironment


class EnvPoolBatch:
    """A pool of environments behind the interface of `HostBatch`: same-step resets, `final_obs` the true successor.

    EnvPool itself resets with the step after the last, whose action it ignores; here that step is taken at once. It is
    needed: with Atari's lives a reset that was asked for would begin a new game. Time limits are counted here.
    """

    restarts, last_fault = 0, ""

    def __init__(self, env: EnvPoolEnvironment, pool: Any):
        self.num_envs = pool.spec.config.num_envs
        self.dropped = np.zeros(self.num_envs, bool)  # none: a fault ends the batch
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._pool: Any = pool
        self._env, self._rows = env, np.arange(self.num_envs)
        self._leaves = _leaves(self.observation_space, "observation")
        self._shape = (self.num_envs, *(self.action_space.shape or ()))

    @property
    def pool(self) -> Any:
        """EnvPool's own object. Raises `EnvError` once the batch is closed."""
        if self._pool is None:
            raise EnvError("the batch is closed; make a new one")
        return self._pool

    def reset(self) -> Timestep:
        """Begin an episode in every environment."""
        obs, info = self.pool.reset()
        zero: Any = np.zeros(self.num_envs, np.float32)
        obs = self._ordered(obs, info, self._rows)
        return self._timestep(obs, zero, zero != 0, zero != 0, obs, zero == 0)

    def step(self, action: Any) -> Timestep:
        """The timestep after `action` [E, ...]; environments whose episode ended are already reset."""
        action = np.asarray(action)
        if action.shape != self._shape:
            raise ConfigError(f"action has shape {action.shape}, this batch needs {self._shape}")
        *now, info = self.pool.step(np.asarray(to_environment(self.action_space, action), self.action_space.dtype))
        more = _over(info, now[2]), info["elapsed_step"] >= self._env.max_steps
        obs, reward, terminated, cut, over, late = self._ordered((*now, *more), info, self._rows)
        late = late | cut
        final, anew = obs, late & ~over  # where only a life was lost at the limit a new game has to be asked for
        for rows, begin in ((terminated & ~anew, self._begin), (anew, self.pool.reset)):
            if rows.any():
                fresh, *_, after = begin(np.flatnonzero(rows))
                obs = _put(obs, rows, self._ordered(fresh, after, np.flatnonzero(rows)))
        if self._env.whole_games:
            lost = terminated & ~over & ~anew  # a life, and the game goes on
            terminated, final = over, _put(final, lost, _map(lambda x: x[lost], obs))
        truncated = late & ~terminated
        return self._timestep(obs, reward, terminated, truncated, final, terminated | truncated)

    def _begin(self, rows: np.ndarray) -> tuple:
        """The step that resets environments which are done."""
        rest = np.zeros((len(rows), *self._shape[1:]), self.action_space.dtype)
        return self.pool.step(rest, rows.astype(np.int32))

    def close(self) -> None:
        """End the pool's threads, which go with the last reference to it."""
        self._pool = None

    def __enter__(self) -> EnvPoolBatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ordered(self, values: PyTree, info: Any, rows: np.ndarray) -> PyTree:
        """Values in the order of `rows`, which are sorted."""
        if np.array_equal(info["env_id"], rows):  # as a pool usually has them
            return values
        order = np.argsort(info["env_id"])
        assert np.array_equal(info["env_id"][order], rows), (info["env_id"], rows)
        return _map(lambda x: x[order], values)

    def _timestep(self, obs: Any, reward: Any, terminated: Any, truncated: Any, final: Any, first: Any) -> Timestep:
        obs, final = (_map(self._stored, x, self._leaves) for x in (obs, final))
        reward = self._stored(reward, _REWARD)
        ends = (np.asarray(terminated, bool), np.asarray(truncated, bool))
        return Timestep(obs, reward, *ends, final, np.asarray(first, bool), {})  # type: ignore[arg-type]

    def _stored(self, values: Any, leaf: Leaf) -> np.ndarray:
        """As it is handed out; raises `EnvError` for what is not finite, or too far outside of its space."""
        values = np.asarray(values, leaf.dtype)
        if values.dtype.kind == "f":
            self._need(np.isfinite(values), f"{leaf.name} is not finite")
        elif leaf.low is not None:
            self._need((values >= leaf.low) & (values <= leaf.high), f"{leaf.name} is outside of its space")
        return values

    def _need(self, fine: np.ndarray, otherwise: str) -> None:
        if not fine.all():
            row = np.flatnonzero(~fine.reshape(len(fine), -1).all(1))[0]
            raise EnvError(f"environment {row} of EnvPool's {self._env.id}: its {otherwise}")


def _over(info: Any, terminated: np.ndarray) -> np.ndarray:
    """Whether the game is over, not just a life lost; in the order of `info`."""
    return info["terminated"] != 0 if "lives" in info else terminated


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Gymnasium's warnings that the bounds of a space are rounded to float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _envpool() -> Any:
    with importing("envpool", "an environment of EnvPool's"):
        import envpool
    return envpool


def _map(function: Any, tree: Any, *rest: Any) -> Any:
    """`function` on the arrays of nested dictionaries and tuples."""
    if isinstance(tree, dict):
        return {key: _map(function, value, *(other[key] for other in rest)) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_map(function, *values) for values in zip(tree, *rest))
    return function(tree, *rest)


def _leaves(space: Any, name: str) -> Any:
    """What is kept of every part of an observation."""
    if hasattr(space, "spaces"):
        parts = space.spaces.items() if isinstance(space.spaces, dict) else enumerate(space.spaces)
        inner = {key: _leaves(part, f"{name}[{key!r}]") for key, part in parts}
        return inner if isinstance(space.spaces, dict) else tuple(inner.values())
    return leaf_of(space, name)


def _put(obs: Any, rows: np.ndarray, fresh: Any) -> Any:
    def one(x, y):
        x = x.copy()
        x[rows] = y
        return x

    return _map(one, obs, fresh)
