"""Bit flipping (Andrychowicz et al. 2017, section 3.1): the smallest task that a sparse reward makes hopeless."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Dict, Discrete, MultiBinary

from thorndike.configuration import config, require
from thorndike.envs.draw import Canvas
from thorndike.envs.goals import ACHIEVED, DESIRED, OBSERVED
from thorndike.types import Array, Step


class BitState(NamedTuple):
    """Bits as they are, and as they should be, int8 [n] each."""

    bits: Array
    goal: Array


@config
class BitFlip:
    """n bits, of which each action flips one; -1 for every step that does not make them equal to the goal's n bits.

    Both are random in each episode, which ends when they are equal, or after n steps. Of 2ⁿ states one pays.
    """

    n: int = 15

    def check(self) -> None:
        """There is something to flip."""
        require(0 < self.n <= 64, f"BitFlip.n must lie between 1 and 64, got {self.n}")

    @property
    def max_steps(self) -> int:
        """As many as there are bits."""
        return self.n

    @property
    def render_fps(self) -> int:
        """Flips a second in films."""
        return 3

    @property
    def observation_space(self) -> Dict:
        """The bits, twice, and the goal."""
        return Dict({name: MultiBinary(self.n) for name in (OBSERVED, ACHIEVED, DESIRED)})

    @property
    def action_space(self) -> Discrete:
        """Which bit to flip."""
        return Discrete(self.n)

    def observe(self, state: BitState) -> dict[str, Array]:
        """What is seen."""
        return {OBSERVED: state.bits, ACHIEVED: state.bits, DESIRED: state.goal}

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: dict[str, Any]) -> Array:
        """0 where the goal is reached, else -1."""
        return jnp.where((achieved_goal == desired_goal).all(-1), 0.0, -1.0)

    def compute_terminated(self, achieved_goal: Array, desired_goal: Array, info: dict[str, Any]) -> Array:
        """Whether the goal is reached."""
        return (achieved_goal == desired_goal).all(-1)

    def reset(self, key: Array) -> Step:
        """Random bits and a random goal."""
        state = BitState(*jax.random.bernoulli(key, 0.5, (2, self.n)).astype(jnp.int8))
        return Step(state, self.observe(state))

    def step(self, state: BitState, action: Array, key: Array) -> Step:
        """Flip one."""
        bits = jnp.where(jnp.arange(self.n) == action, 1 - state.bits, state.bits).astype(jnp.int8)
        state = state._replace(bits=bits)
        done = self.compute_terminated(bits, state.goal, {})
        reward = self.compute_reward(bits, state.goal, {})
        return Step(state, self.observe(state), reward, done, {"success": done})

    def render(self, state: BitState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: the bits above the goal's, those that differ in red."""
        bits, goal = np.asarray(state.bits), np.asarray(state.goal)
        canvas = Canvas(x=(-0.5, self.n + 0.5), y=(-0.5, 3.5))
        for i in range(self.n):
            for y, on, colour in (
                (2, bits[i], "#2b3a55" if bits[i] == goal[i] else "#b5483a"),
                (0, goal[i], "#3f9d5d"),
            ):
                square = [(i + 0.1, y + 0.1), (i + 0.9, y + 0.1), (i + 0.9, y + 0.9), (i + 0.1, y + 0.9)]
                canvas.polygon(square, colour)
                if not on:
                    canvas.polygon(
                        [(i + 0.5 + 0.8 * (x - i - 0.5), y + 0.5 + 0.8 * (v - y - 0.5)) for x, v in square], "#ffffff"
                    )
        return canvas.frame()
