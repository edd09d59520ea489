"""Several environments, learned at once by one agent that is told which of them it is in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Dict, Discrete

from thorndike.configuration import Inner, check, config, is_config, require
from thorndike.types import SHOWN, Array, PyTree, Step

KEPT = ("cost", "success")  # of what a step earns: where all tasks have it


class Under(NamedTuple):
    """The episode under way."""

    task: Array  # which of the environments it is in
    steps: Array  # that this copy has taken in each task, over all episodes  [N]
    total: Array  # its return so far, in that environment's own rewards
    inner: tuple[PyTree, ...]  # a state of each environment


@config(kw_only=False)
class Tasks:
    """Each episode is in one of several environments with equal spaces: `td.Tasks([one, other])`.

    The agent sees "obs", what the environment shows, and "task", which it is: networks see that one-hot. Rewards are
    multiplied by the task's scale, so that none outweighs the others; the metrics `ep_return_0_mean`, ... are the
    returns of each task's episodes in its own rewards. Of what else a step earns, costs and successes are kept where
    all tasks have them. The first episode is in a task that is drawn, the next always in that in which this copy has
    taken the fewest steps: otherwise a task that is failed early, in short episodes, would have little of the
    experience. It has to be the outermost wrapper.

    `tasks.only(0)` has the episodes of the first task alone, and the same spaces: to learn tasks one after the other,
    to play old ones again beside a new one (`tasks.only(0, 1)`), and to evaluate in each.
    """

    envs: tuple[Inner, ...]
    reward_scales: tuple[float, ...] | None = None  # one for each task; None: 1
    among: tuple[int, ...] | None = None  # the tasks that episodes are in; None: all

    def __post_init__(self) -> None:
        if isinstance(self.envs, list):
            object.__setattr__(self, "envs", tuple(self.envs))

    def check(self) -> None:
        """Environments that one agent can act in, and tasks that there are."""
        require(len(self.envs) > 0, "Tasks needs environments: td.Tasks([one, other])")
        first = self.envs[0]
        for i, env in enumerate(self.envs):
            name = f"Tasks.envs[{i}]"
            require(is_config(env) and not isinstance(env, type), f"{name} must be a JAX environment, got {env!r}")
            check(env, name)
            require(getattr(env, "players", 1) == 1, f"{name} is a game: Tasks is for environments of one player")
            require(not hasattr(env, "again"), f"{type(env).__name__} has to be outermost: put Tasks inside of it")
            for part in ("observation_space", "action_space"):
                ours, theirs = getattr(first, part), getattr(env, part)
                require(
                    ours == theirs, f"tasks need equal spaces: the {part} of {name} is {theirs}, of the first {ours}"
                )
            both = f"{name} has {env.max_steps} steps and the first {first.max_steps}"
            require(env.max_steps == first.max_steps, f"tasks need one time limit, by td.TimeLimit: {both}")
        n, scales, among = len(self.envs), self.reward_scales, self.among
        require(scales is None or len(scales) == n, f"Tasks.reward_scales needs {n} numbers, got {scales}")
        there = among is None or (len(among) > 0 and all(0 <= i < n for i in among))
        require(there, f"Tasks.among names tasks from 0 to {n - 1}, got {among}")

    def only(self, *tasks: int) -> Tasks:
        """With episodes in these tasks alone; spaces stay as they are."""
        return dataclasses.replace(self, among=tasks)

    @property
    def max_steps(self) -> int:
        """The time limit, which all have."""
        return self.envs[0].max_steps

    @property
    def observation_space(self) -> Space:
        """ "obs", and "task"."""
        return Dict(obs=self.envs[0].observation_space, task=Discrete(len(self.envs)))

    @property
    def action_space(self) -> Space:
        """Of each of them."""
        return self.envs[0].action_space

    def task(self, key: Array) -> Array:
        """One of the tasks, drawn uniformly."""
        return jax.random.choice(key, jnp.asarray(self.among or range(len(self.envs)), jnp.int32))

    def begin(self, task: Array, key: Array) -> Step:
        """An episode in that task."""
        return self.begun(task, jnp.zeros(len(self.envs), jnp.int32), key)

    def begun(self, task: Array, steps: Array, key: Array) -> Step:
        """An episode in that task, after so many steps in each."""
        fresh = [env.reset(own) for env, own in zip(self.envs, jax.random.split(key, len(self.envs)))]
        obs, info = jax.tree.map(lambda *xs: jnp.stack(xs)[task], *((step.obs, shown(step.info)) for step in fresh))
        state = Under(jnp.int32(task), steps, jnp.float32(0), tuple(step.state for step in fresh))
        return Step(state, self.seen(obs, task), info=info)

    def task_of(self, state: Under) -> Array:
        """Which task the episode is in."""
        return state.task

    def reset(self, key: Array) -> Step:
        """An episode in a task that is drawn."""
        tkey, key = jax.random.split(key)
        return self.begin(self.task(tkey), key)

    def again(self, state: Under, key: Array) -> Step:
        """The next episode, in the task that has had the fewest steps; of several such, one that is drawn."""
        tkey, key = jax.random.split(key)
        there = jnp.asarray([self.among is None or i in self.among for i in range(len(self.envs))])
        least = there & (state.steps == jnp.where(there, state.steps, jnp.iinfo(jnp.int32).max).min())
        return self.begun(jax.random.categorical(tkey, jnp.where(least, 0.0, -jnp.inf)), state.steps, key)

    def step(self, state: Under, action: Array, key: Array) -> Step:
        """A step in the episode's task."""
        shapes = [jax.eval_shape(env.step, inner, action, key) for env, inner in zip(self.envs, state.inner)]
        kept = [name for name in KEPT if all(name in step.info for step in shapes)]

        def one(i: int) -> Callable[[], tuple[Any, ...]]:
            def stepped() -> tuple[Any, ...]:
                step = self.envs[i].step(state.inner[i], action, key)
                inner = (*state.inner[:i], step.state, *state.inner[i + 1 :])
                info = shown(step.info) | {name: step.info[name] for name in kept}
                return inner, step.obs, jnp.float32(step.reward), jnp.asarray(step.terminated, bool), info

            return stepped

        inner, obs, reward, over, info = jax.lax.switch(state.task, [one(i) for i in range(len(self.envs))])
        total = state.total + reward
        # NaN is what is not known: of an episode in another task.
        log = {f"return_{i}": jnp.where(state.task == i, total, jnp.nan) for i in range(len(self.envs))}
        scale = jnp.asarray(self.reward_scales or np.ones(len(self.envs)), jnp.float32)[state.task]
        later = Under(state.task, state.steps.at[state.task].add(1), total, inner)
        return Step(later, self.seen(obs, state.task), reward * scale, over, {**info, "log": log})

    def seen(self, obs: PyTree, task: Array) -> dict[str, PyTree]:
        """The observation in a task."""
        return {"obs": obs, "task": jnp.int32(task)}

    @property
    def render(self) -> Callable[[Under], np.ndarray]:
        """Draws the episode's own environment, where all of them draw."""
        draws = [env.render for env in self.envs]
        return lambda state: draws[int(state.task)](state.inner[int(state.task)])


def shown(info: dict[str, PyTree]) -> dict[str, PyTree]:
    """What belongs to an observation."""
    return {name: info[name] for name in SHOWN if name in info}
