"""Bernoulli bandits, a family of tasks (Duan et al. 2016, section 3.1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.tasks.family import Placed, drawn
from thorndike.types import Array, Step


@config
class Bandit:
    """One pull of an arm, which pays 1 with a probability of its own; a task is these probabilities, uniform in [0, 1].

    There is nothing to see, so an episode alone teaches nothing: `td.Trials(env=td.Bandit(), episodes=100)` is the
    problem of exploring well within 100 pulls.
    """

    arms: int = 5
    max_steps: int = 1

    def check(self) -> None:
        """Something to choose from."""
        require(self.arms > 1, f"Bandit.arms must be 2 or more, got {self.arms}")

    @property
    def observation_space(self) -> Discrete:
        """Always 0."""
        return Discrete(1)

    @property
    def action_space(self) -> Discrete:
        """The arm."""
        return Discrete(self.arms)

    def task(self, key: Array) -> Array:
        """The arms' probabilities [arms]."""
        return jax.random.uniform(key, (self.arms,))

    def begin(self, task: Array, key: Array) -> Step:
        """Before the pull."""
        return Step(Placed(task, jnp.int32(0)), jnp.int32(0))

    def task_of(self, state: Placed) -> Array:
        """The arms' probabilities."""
        return state.task

    def reset(self, key: Array) -> Step:
        """A bandit drawn anew."""
        return drawn(self, key)

    def step(self, state: Placed, action: Array, key: Array) -> Step:
        """The pull, which ends the episode."""
        pays = jax.random.bernoulli(key, state.task[action])
        return Step(state, state.place, pays.astype(jnp.float32), True)
