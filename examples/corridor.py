"""A corridor, an environment of your own in one file.

thorndike train ppo ./examples/corridor.py:Corridor
"""

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

import thorndike as td


@td.config
class Corridor:
    """Walk to the exit, which is at either end: each step costs 1, and some slip. The best mean return is -12.5."""

    slip: float = 0.1  # probability that a step goes the other way; floats may change without another compilation
    length: int = 10  # cells on either side of the start
    max_steps: int = 100  # the time limit, after which an episode is truncated

    observation_space = property(lambda self: Box(-1.0, 1.0, (2,), np.float32))
    action_space = property(lambda self: Discrete(2))

    def reset(self, key) -> td.Step:
        """The start of an episode: a new state, and what the agent sees of it."""
        exit = jnp.where(jax.random.bernoulli(key), self.length, -self.length)
        return self._show(jnp.array([0, exit]))

    def step(self, state, action, key) -> td.Step:
        """One step: 0 is to the left, 1 to the right."""
        slips = jax.random.bernoulli(key, self.slip)
        move = jnp.where((action == 1) ^ slips, 1, -1)
        x = jnp.clip(state[0] + move, -self.length, self.length)
        return self._show(jnp.array([x, state[1]]), -1.0, x == state[1])

    def _show(self, state, reward=0.0, terminated=False) -> td.Step:
        return td.Step(state, state / jnp.float32(self.length), reward, terminated)
