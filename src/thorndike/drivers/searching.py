"""An opponent of fixed strength for any game of two players: tree search with random playouts."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from thorndike.drivers.learner import random_action
from thorndike.planning.puct import puct
from thorndike.planning.turns import playout, position
from thorndike.types import Array, Step, Timestep

EXPLORATION = 2.0  # weight of equal priors, for values in [0, 1]


class Searching(eqx.Module):
    """Monte-Carlo tree search (Kocsis & Szepesvári 2006; Coulom 2006) that knows the rules and nothing else.

    Each simulation descends by PUCT with equal priors, adds one position, and plays from there to the end by random
    legal moves; the move with most visits is made. mctx searches. Its strength depends on `simulations` alone, so a
    score against it can be compared between agents, and between days.
    """

    game: Any = eqx.field(static=True)
    simulations: int = eqx.field(static=True)  # of each move

    def act(self, now: Timestep, key: Array) -> Array:
        """Moves [B]."""
        return puct(self.game, position(now), key, self.judge, self.simulations, EXPLORATION).action

    def judge(self, at: Step, key: Array) -> tuple[Array, Array]:
        """Logits of the priors [B, A], and values [B]."""
        return self.priors(at), self.playout(at, key)

    def priors(self, at: Step) -> Array:
        """Logits [B, A]: all legal moves are alike."""
        n, a = at.reward.shape[0], int(self.game.action_space.n)
        return jnp.where(at.info["mask"], 0.0, -1e9) if "mask" in at.info else jnp.zeros((n, a))

    def playout(self, at: Step, key: Array) -> Array:
        """What random legal moves from positions [B, ...] to the end earn whoever is to move there, [B]."""

        def choose(step: Step, key: Array) -> Array:
            none: Any = ()
            seen = Timestep(none, step.reward, none, none, none, none, step.info)
            return random_action(self.game.action_space, seen, key)

        return playout(self.game, at, key, choose)
