"""The river (Strehl & Littman 2008, figure 1): a small reward nearby, a large one against the current."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step

LEFT, RIGHT = 0, 1


class Swim(NamedTuple):
    """The place, from 0 (down the river) to length - 1."""

    place: Array


@config
class RiverSwim:
    """Swim left (0), which always works, or right (1), against a current.

    Right leads on with probability 0.3, holds the place with 0.6 and loses one with 0.1; at the left bank 0.3 and 0.7,
    at the right one it stays with 0.3, which pays 1, and is swept back with 0.7. Left at the left bank pays 0.0005.
    Rewards are the paper's over 10,000. An episode begins at place 1 or 2, and only the time limit, which is ours, ends
    it.
    """

    length: int = 6
    max_steps: int = 200

    def check(self) -> None:
        """There is a river."""
        require(self.length >= 3, f"RiverSwim.length must be 3 or more, got {self.length}")

    @property
    def render_fps(self) -> int:
        """Strokes a second in films."""
        return 8

    @property
    def observation_space(self) -> Discrete:
        """The place."""
        return Discrete(self.length)

    @property
    def action_space(self) -> Discrete:
        """0 left, 1 right."""
        return Discrete(2)

    def reset(self, key: Array) -> Step:
        """At place 1 or 2."""
        place = jax.random.randint(key, (), 1, 3)
        return Step(Swim(place), place)

    def step(self, state: Swim, action: Array, key: Array) -> Step:
        """One stroke."""
        u, place, last = jax.random.uniform(key), state.place, self.length - 1
        inside = jnp.where(u < 0.3, 1, jnp.where(u < 0.9, 0, -1))
        first, end = jnp.where(u < 0.3, 1, 0), jnp.where(u < 0.3, 0, -1)
        moved = jnp.where(place == 0, first, jnp.where(place == last, end, inside))
        after = jnp.maximum(place + jnp.where(action == RIGHT, moved, -1), 0)
        pays = jnp.where((action == RIGHT) & (place == last) & (after == last), 1.0, 0.0)
        reward = jnp.where((action == LEFT) & (place == 0), 0.0005, pays)
        return Step(Swim(after), after, reward)

    def transitions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """P(s' | s, a) [S, A, S'], R(s, a) [S, A], terminal states [S]: see `td.FiniteMDP`."""
        n = self.length
        p, r = np.zeros((n, 2, n)), np.zeros((n, 2))
        for s in range(n):
            p[s, LEFT, max(s - 1, 0)] = 1.0
            ahead, stay = (0.3, 0.7) if s == 0 else (0.0, 0.3) if s == n - 1 else (0.3, 0.6)
            p[s, RIGHT, min(s + 1, n - 1)] += ahead
            p[s, RIGHT, s] += stay
            p[s, RIGHT, max(s - 1, 0)] += 1.0 - ahead - stay
        r[0, LEFT], r[n - 1, RIGHT] = 0.0005, 0.3
        return p, r, np.zeros(n, bool)

    def render(self, state: Swim) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: the river, what is to be had at its ends, the swimmer."""
        n = self.length
        canvas = Canvas(x=(0, n), y=(-0.5, 1.5))
        canvas.polygon([(0, 0), (n, 0), (n, 1), (0, 1)], "#7fb2d9")
        canvas.circle((0.15, 0.8), 0.06, "#e8b93c")
        canvas.circle((n - 0.3, 0.75), 0.2, "#e8b93c")
        canvas.circle((int(state.place) + 0.5, 0.4), 0.25, "#d9822b")
        return canvas.frame()
