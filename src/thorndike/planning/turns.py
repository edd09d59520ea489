"""Games of players who take turns, for a search: one move further, and play to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from thorndike.types import Array, PyTree, Step, Timestep


def position(now: Timestep) -> Step:
    """What a batch of environments shows now [B, ...], as positions to play on from."""
    mask = now.info.get("mask")
    over = jnp.zeros(now.reward.shape, bool)
    return Step(now.sim.state, now.obs, jnp.zeros_like(now.reward), over, {} if mask is None else {"mask": mask})


def moved(game: Any, state: PyTree, action: Array, key: Array) -> tuple[Step, Array]:
    """The positions after moves [B], and what a result there is worth to the mover, [B].

    1 where the same player moves again, -1 where the other does, 0 where the game is over.
    """
    player = jax.vmap(game.player)
    after = jax.vmap(game.step)(state, action, jax.random.split(key, action.shape[0]))
    sign = jnp.where(player(state) == player(after.state), 1.0, -1.0)
    return after, jnp.where(after.terminated, 0.0, sign)


def playout(game: Any, start: Step, key: Array, choose: Callable[[Step, Array], Array]) -> Array:
    """What play from positions [B, ...] to the end earns whoever is to move there, [B]; 0 where the game is over.

    `choose(step, key)` gives the moves [B], of both sides.
    """
    me = jax.vmap(game.player)(start.state)

    def going(carry: tuple[Any, ...]) -> Array:
        step, *_, t = carry
        return ~step.terminated.all() & (t < game.max_steps)

    def move(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, total, key, t = carry
        key, akey, skey = jax.random.split(key, 3)
        mine = jax.vmap(game.player)(step.state) == me
        after, _ = moved(game, step.state, choose(step, akey), skey)
        total += jnp.where(step.terminated, 0.0, jnp.where(mine, after.reward, -after.reward))
        return after._replace(terminated=step.terminated | after.terminated), total, key, t + 1

    return jax.lax.while_loop(going, move, (start, jnp.zeros(me.shape), key, 0))[1]
