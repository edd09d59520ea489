"""An opponent of fixed strength for any game of two players: tree search with random playouts."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.drivers.learner import random_action
from thorndike.extras import importing
from thorndike.types import Array, PyTree, Timestep

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
        with importing("mctx", "search"):
            import mctx

        mask, state = now.info.get("mask"), now.sim.state
        skey, pkey = jax.random.split(key)
        root = mctx.RootFnOutput(
            prior_logits=self.priors(state, mask), value=self.playout(state, mask, pkey), embedding=(state, mask)
        )
        found = mctx.muzero_policy(
            (),
            skey,
            root,
            self.imagine,
            self.simulations,
            None if mask is None else ~mask,
            qtransform=partial(mctx.qtransform_by_min_max, min_value=-1.0, max_value=1.0),
            dirichlet_fraction=0.0,
            pb_c_init=EXPLORATION,
            temperature=0.0,
        )
        return found.action

    def priors(self, state: PyTree, mask: Array | None) -> Array:
        """Logits [B, A]: all legal moves are alike."""
        n, a = jax.tree.leaves(state)[0].shape[0], int(self.game.action_space.n)
        return jnp.zeros((n, a)) if mask is None else jnp.where(mask, 0.0, -1e9)

    def imagine(self, _: Any, key: Array, action: Array, embedding: tuple[PyTree, Array | None]):
        """One move further; what is good for the other player is bad for this one."""
        import mctx

        skey, pkey = jax.random.split(key)
        state, _mask = embedding
        player = jax.vmap(self.game.player)
        after = jax.vmap(self.game.step)(state, action, jax.random.split(skey, action.shape[0]))
        mask, over = after.info.get("mask"), after.terminated
        sign = jnp.where(player(state) == player(after.state), 1.0, -1.0)
        value = jnp.where(over, 0.0, self.playout(after.state, mask, pkey, over))
        step = mctx.RecurrentFnOutput(
            reward=after.reward,
            discount=jnp.where(over, 0.0, sign),
            prior_logits=self.priors(after.state, mask),
            value=value,
        )
        return step, (after.state, mask)

    def playout(self, state: PyTree, mask: Array | None, key: Array, over: Array | bool = False) -> Array:
        """What random legal moves from positions [B, ...] to the end earn whoever is to move there, [B]."""
        me = jax.vmap(self.game.player)(state)

        def going(carry: tuple[Any, ...]) -> Array:
            *_, over, t = carry
            return ~over.all() & (t < self.game.max_steps)

        def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            state, mask, key, total, over, t = carry
            key, akey, skey = jax.random.split(key, 3)
            none: Any = ()
            seen = Timestep(none, total, none, none, none, none, {} if mask is None else {"mask": mask})
            action = random_action(self.game.action_space, seen, akey)
            mine = jax.vmap(self.game.player)(state) == me
            after = jax.vmap(self.game.step)(state, action, jax.random.split(skey, action.shape[0]))
            total += jnp.where(over, 0.0, jnp.where(mine, after.reward, -after.reward))
            return after.state, after.info.get("mask"), key, total, over | after.terminated, t + 1

        over = jnp.broadcast_to(jnp.asarray(over, bool), me.shape)
        start = (state, mask, key, jnp.zeros(me.shape), over, 0)
        return jax.lax.while_loop(going, step, start)[3]
