"""RepeatPrevious: name the suit that was shown k steps ago (Morad et al. 2023, POPGym)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from thorndike.configuration import config, require
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step


class CardState(NamedTuple):
    """The last k + 1 suits, oldest first, and how many were shown."""

    suits: Array
    shown: Array


@config
class RepeatPrevious:
    """Each step shows a random suit and pays for naming the one of k steps before: returns in [-1, 1].

    1 / n for a right answer and -1 / n for a wrong one, where n is the number of answers; the first k steps pay
    nothing. Without memory nothing beats guessing: -1 + 2 / suits.
    """

    k: int = 4
    suits: int = 4
    cards: int = 52  # shown in an episode
    max_steps: int = 1_000

    def check(self) -> None:
        """There is something to remember and something to answer."""
        require(self.k > 0 and self.suits > 1, "RepeatPrevious needs k of at least 1 and 2 suits")
        require(self.cards > self.k, f"RepeatPrevious.cards ({self.cards}) must be more than k ({self.k})")

    @property
    def render_fps(self) -> int:
        """Cards a second in films."""
        return 4

    @property
    def observation_space(self) -> Discrete:
        """The suit that is shown."""
        return Discrete(self.suits)

    @property
    def action_space(self) -> Discrete:
        """The suit that was shown k steps ago."""
        return Discrete(self.suits)

    def reset(self, key: Array) -> Step:
        """The first card."""
        suits = jnp.zeros(self.k + 1, jnp.int32).at[-1].set(jax.random.randint(key, (), 0, self.suits))
        return Step(CardState(suits, jnp.int32(1)), suits[-1])

    def step(self, state: CardState, action: Array, key: Array) -> Step:
        """Pay for the answer and show the next card; the episode ends with the answer to the last."""
        pay = jnp.where(action == state.suits[0], 1.0, -1.0) / (self.cards - self.k)
        reward = jnp.where(state.shown > self.k, pay, 0.0)
        suits = jnp.roll(state.suits, -1).at[-1].set(jax.random.randint(key, (), 0, self.suits))
        return Step(CardState(suits, state.shown + 1), suits[-1], reward, state.shown >= self.cards)

    def render(self, state: CardState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: the last k + 1 cards, the answer on the left."""
        canvas = Canvas(x=(-1, self.k + 1), y=(-1.5, 1))
        for i, suit in enumerate(np.asarray(state.suits)):
            shade = "#2b3a55" if i in (0, self.k) else "#9aa3ad"
            canvas.polygon([(i - 0.4, -0.6), (i + 0.4, -0.6), (i + 0.4, 0.6), (i - 0.4, 0.6)], shade)
            canvas.text((i, 0.0), str(int(suit)), "#ffffff")
        canvas.text((self.k / 2, -1.1), f"card {int(state.shown)} of {self.cards}")
        return canvas.frame()
