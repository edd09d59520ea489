"""Random Markov decision processes, a family of tasks (Duan et al. 2016, section 3.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.tasks.family import Placed, drawn
from thorndike.types import Array, Step


@config
class RandomMDP:
    """A task is transition probabilities, flat Dirichlet, and mean rewards, normal with mean 1 and deviation 1.

    A step in state s by a pays the mean reward of (s, a) plus normal noise of deviation 1; an episode begins in state 0
    and has `max_steps` steps.
    """

    states: int = 10
    actions: int = 5
    max_steps: int = 10

    def check(self) -> None:
        """Something to choose from."""
        require(self.states > 0 and self.actions > 1, "RandomMDP needs a state and two actions, or more")

    @property
    def observation_space(self) -> Discrete:
        """The state."""
        return Discrete(self.states)

    @property
    def action_space(self) -> Discrete:
        """The action."""
        return Discrete(self.actions)

    def task(self, key: Array) -> tuple[Array, Array]:
        """P(s' | s, a) [S, A, S'] and mean rewards [S, A]."""
        pkey, rkey = jax.random.split(key)
        transitions = jax.random.dirichlet(pkey, jnp.ones(self.states), (self.states, self.actions))
        return transitions, 1.0 + jax.random.normal(rkey, (self.states, self.actions))

    def begin(self, task: tuple[Array, Array], key: Array) -> Step:
        """In state 0."""
        return Step(Placed(task, jnp.int32(0)), jnp.int32(0))

    def task_of(self, state: Placed) -> tuple[Array, Array]:
        """Probabilities and rewards."""
        return state.task

    def reset(self, key: Array) -> Step:
        """In state 0 of another process."""
        return drawn(self, key)

    def step(self, state: Placed, action: Array, key: Array) -> Step:
        """A reward of (s, a), and the next state."""
        nkey, rkey = jax.random.split(key)
        transitions, mean = state.task
        reward = mean[state.place, action] + jax.random.normal(rkey)
        place = jax.random.categorical(nkey, jnp.log(transitions[state.place, action])).astype(jnp.int32)
        return Step(Placed(state.task, place), place, reward)
