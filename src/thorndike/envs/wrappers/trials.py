"""Families of tasks: trials of several episodes in one task, and one task for all episodes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete

from thorndike.configuration import config, require
from thorndike.envs.wrappers.base import Wrapped, Wrapper, refuse
from thorndike.types import SHOWN, Array, Environment, PyTree, Step


@runtime_checkable
class TaskFamily(Environment, Protocol):
    """A JAX environment that draws a task at the start of each episode: `reset` is `begin` in a new task.

    `td.Randomised` is one, whose tasks are the numbers that it draws.
    """

    def task(self, key: Array) -> PyTree:
        """A task, drawn anew."""

    def begin(self, task: PyTree, key: Array) -> Step:
        """The beginning of an episode in that task."""

    def task_of(self, state: PyTree) -> PyTree:
        """The task that an episode's state belongs to."""


def require_tasks(wrapper: Wrapper) -> None:
    """Raise `ConfigError` unless the environment inside has tasks."""
    inner, name = wrapper.env, type(wrapper).__name__
    missing = [part for part in ("task", "begin", "task_of") if not hasattr(inner, part)]
    require(
        not missing,
        f"{name} needs an environment whose episodes are in tasks, and {type(inner).__name__} has no {missing[:1]}: "
        "take a family such as td.Bandit(), or draw numbers of the environment by td.Randomised",
    )


class Trial(NamedTuple):
    """Where a trial is."""

    episode: Array  # from 0
    steps: Array  # of this episode


@config
class Trials(Wrapper):
    """A trial is several episodes of the environment inside, all in one task, as one episode (Duan et al. 2016, RL²).

    The agent sees what it needs to learn the task within the trial: the observation, its last action, the reward of
    that, and whether an inner episode ended with it. Inner ends begin the next episode of the same task and are no
    ends; the last one terminates. An agent with memory that is trained on trials learns to learn.
    """

    episodes: int = 2

    def check(self) -> None:
        """At least one episode, of a family of tasks, with actions that can be shown."""
        refuse(self)
        require_tasks(self)
        require(self.episodes > 0, f"Trials.episodes must be positive, got {self.episodes}")
        action = self.env.action_space
        require(isinstance(action, (Discrete, Box)), f"Trials shows Discrete or Box actions, not {action}")

    @property
    def max_steps(self) -> int:
        """All episodes at their limit."""
        return self.episodes * self.env.max_steps

    @property
    def observation_space(self) -> Space:
        """ "obs"; "action", one-hot where it is a choice, zeros at first; "reward" [1]; "ended" [1]."""
        action: Any = self.env.action_space
        n = int(action.n if isinstance(action, Discrete) else np.prod(action.shape))
        low, high = (0.0, 1.0) if isinstance(action, Discrete) else (-np.inf, np.inf)
        return Dict(
            obs=self.env.observation_space,
            action=Box(low, high, (n,), np.float32),
            reward=Box(-np.inf, np.inf, (1,), np.float32),
            ended=Box(0.0, 1.0, (1,), np.float32),
        )

    def shown(self, obs: PyTree, action: Array | None, reward: Array | float, ended: Array | bool) -> dict[str, PyTree]:
        """What is seen after an action; None before the first."""
        space: Any = self.env.action_space
        if action is None:
            before = jnp.zeros(self.observation_space["action"].shape)  # type: ignore[index]
        elif isinstance(space, Discrete):
            before = jax.nn.one_hot(action - space.start, int(space.n))
        else:
            before = jnp.ravel(action).astype(jnp.float32)
        one = lambda x: jnp.float32(x)[None]  # noqa: E731
        return {"obs": obs, "action": before, "reward": one(reward), "ended": one(ended)}

    def reset(self, key: Array) -> Step:
        """The first episode of a trial in a new task."""
        step = self.env.reset(key)
        state = Wrapped(step.state, Trial(jnp.int32(0), jnp.int32(0)))
        return step._replace(state=state, obs=self.shown(step.obs, None, 0.0, False))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """A step of this episode; where it ends, the next one begins."""
        skey, bkey = jax.random.split(key)
        step, trial = self.env.step(state.inner, action, skey), state.mine
        ended = jnp.asarray(step.terminated, bool) | (trial.steps + 1 >= self.env.max_steps)
        over = ended & (trial.episode + 1 >= self.episodes)
        fresh = self.env.begin(self.env.task_of(step.state), bkey)
        again = ended & ~over
        choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(again, a, b), new, old)  # noqa: E731
        inner, obs = choose((fresh.state, fresh.obs), (step.state, step.obs))
        info = {name: choose(fresh.info[name], x) if name in SHOWN else x for name, x in step.info.items()}
        where = Trial(trial.episode + ended, jnp.where(ended, 0, trial.steps + 1))
        return Step(Wrapped(inner, where), self.shown(obs, action, step.reward, ended), step.reward, over, info)

    def task(self, key: Array) -> PyTree:
        """A task, drawn anew."""
        return self.env.task(key)

    def begin(self, task: PyTree, key: Array) -> Step:
        """The first episode of a trial in that task."""
        step = self.env.begin(task, key)
        state = Wrapped(step.state, Trial(jnp.int32(0), jnp.int32(0)))
        return step._replace(state=state, obs=self.shown(step.obs, None, 0.0, False))

    def task_of(self, state: Wrapped) -> PyTree:
        """The task of the trial."""
        return self.env.task_of(state.inner)


@config
class SameTask(Wrapper):
    """Each copy of the environment stays in the task that it drew first, over all episodes. It has to be outermost."""

    def check(self) -> None:
        """Around a family of tasks."""
        refuse(self)
        require_tasks(self)

    def begin(self, task: PyTree, key: Array) -> Step:
        """The first episode in that task."""
        return self.env.begin(task, key)

    def again(self, state: PyTree, key: Array) -> Step:
        """The next episode, in the task of the last."""
        return self.env.begin(self.env.task_of(state), key)
