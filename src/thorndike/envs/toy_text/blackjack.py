"""Blackjack-v1: the card game of Sutton & Barto (2018, example 5.1), with Gymnasium's rules."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete, Tuple

from thorndike.configuration import config
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step

STICK, HIT = 0, 1
DRAWS = 10  # the most cards that a dealer takes: five aces and a six, say, and then ones up to 17


class BlackjackState(NamedTuple):
    """Both hands; an ace counts 1 here, and `value` makes it 11 where that is no bust."""

    player: Array  # sum of the player's cards
    ace: Array  # whether one of them is an ace
    natural: Array  # whether they are an ace and a ten, as dealt
    dealer: Array  # the dealer's two cards  [2]


@config
class Blackjack:
    """Beat the dealer: 1 for a win, 0 for a draw, -1 for a loss. Cards come from a deck without end.

    An action is 0 stick or 1 hit. Beyond 21 the player has lost. Once the player sticks, the dealer takes cards until
    their value is 17 or more.
    """

    natural: bool = False  # a win with a natural, an ace and a ten as dealt, is worth 1.5; only where `sab` is False
    sab: bool = True  # Sutton and Barto's rule: a natural wins against everything but another one
    max_steps: int = 100  # more than any game has

    @property
    def observation_space(self) -> Tuple:
        """The player's sum, the dealer's open card (1: an ace) and whether the player has an ace that counts 11."""
        return Tuple((Discrete(32), Discrete(11), Discrete(2)))

    @property
    def action_space(self) -> Discrete:
        """0 stick, 1 hit."""
        return Discrete(2)

    @property
    def render_fps(self) -> int:
        """Steps a second in films."""
        return 1

    def reset(self, key: Array) -> Step:
        """Two cards each."""
        cards = draw(key, 4)
        player, ace = cards[2:].sum(), (cards[2:] == 1).any()
        state = BlackjackState(player, ace, ace & (player == 11), cards[:2])
        return Step(state, self.observe(state))

    def step(self, state: BlackjackState, action: Array, key: Array) -> Step:
        """A card for the player, or the dealer's cards and the end."""
        cards, hit = draw(key, DRAWS), action == HIT
        after = BlackjackState(
            jnp.where(hit, state.player + cards[0], state.player),
            jnp.where(hit, state.ace | (cards[0] == 1), state.ace),
            state.natural & ~hit,
            state.dealer,
        )
        bust = after.player > 21
        mine, theirs = value(after.player, after.ace), dealers_score(state.dealer, cards)
        won = jnp.sign(mine - theirs).astype(jnp.float32)
        if self.sab:
            both = (state.dealer.sum() == 11) & (state.dealer == 1).any()
            won = jnp.where(state.natural & ~both, 1.0, won)
        elif self.natural:
            won = jnp.where(state.natural & (won == 1), 1.5, won)
        reward = jnp.where(hit, jnp.where(bust, -1.0, 0.0), won)
        return Step(after, self.observe(after), reward, ~hit | bust)

    def observe(self, state: BlackjackState) -> tuple[Array, Array, Array]:
        """What the player sees."""
        total = value(state.player, state.ace)
        return total, state.dealer[0], (total > state.player).astype(jnp.int32)

    def render(self, state: BlackjackState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]."""
        total, shown, ace = (int(x) for x in self.observe(state))
        canvas = Canvas(x=(0, 4), y=(0, 2), width=480, background="#1f5c3a")
        lines = f"dealer shows {'an ace' if shown == 1 else shown}", f"player has {total}", "with a usable ace" * ace
        for y, line in zip((1.5, 0.9, 0.5), lines):
            canvas.text((2, y), line, "#ffffff", 0.3)
        return canvas.frame()


def draw(key: Array, n: int) -> Array:
    """n cards: 1 is an ace; 10 has four thirteenths, as jack, queen and king count 10."""
    return jnp.minimum((13 * jax.random.uniform(key, (n,))).astype(jnp.int32) + 1, 10)


def value(total: Array, ace: Array) -> Array:
    """What a hand counts, whose cards sum to `total` with aces as 1: an ace is 11 where that is no bust."""
    return jnp.where(ace & (total + 10 <= 21), total + 10, total)


def dealers_score(dealer: Array, cards: Array) -> Array:
    """The value that the dealer ends with, 0 beyond 21: of two cards [2], and of `cards` [DRAWS] one after the other
    until it is at least 17."""
    totals = dealer.sum() + jnp.append(0, cards.cumsum())  # after k more cards
    aces = (dealer == 1).any() | jnp.append(False, (cards == 1).cumsum() > 0)
    values = value(totals, aces)
    score = values[(values >= 17).argmax()]
    return jnp.where(score > 21, 0, score)
