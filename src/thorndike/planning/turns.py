"""Games of players who take turns: one move further, play to the end, and what each move came to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.extras import importing
from thorndike.types import Array, PyTree, Spec, Step, Timestep


def unplayable(name: str, spec: Spec) -> str | None:
    """Why `name`, an algorithm that searches by the rules, cannot play this; None: it can.

    Games of two players are played whose rules can be compiled. Raises `MissingExtraError`.
    """
    if spec.players != 2 or not isinstance(spec.action, Discrete):
        return f"{name} plays games of two players, like pgx/tic_tac_toe"
    if not hasattr(spec.model, "player"):
        return f"{name} asks whose move it is: {type(spec.model).__name__} needs a method player(state)"
    if not getattr(spec.model, "perfect", True):
        return f"{name} plays games without chance, hidden cards or stakes, like pgx/tic_tac_toe"
    mctx_package()
    return None


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
    sign = opposed(player(state), player(after.state))
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


def opposed(player: Array, other: Array) -> Array:
    """1 where it is the same player's move, -1 where it is the other's."""
    return jnp.where(player == other, 1.0, -1.0)


def results(reward: Array, terminated: Array, truncated: Array, player: Array, value: Array) -> Array:
    """z [T, E]: the mover's result, from rewards, ends, movers and searched values [T, E].

    A game that is truncated, or goes on after T, is scored by the search's value of the last position.
    """
    cut = truncated.at[-1].set(True) & ~terminated
    sign = jnp.concatenate([opposed(player[:-1], player[1:]), jnp.zeros_like(reward[-1:])])

    def back(z: Array, step: tuple[Array, ...]):
        reward, terminated, cut, sign, value = step
        z = jnp.where(cut, value, reward + jnp.where(terminated, 0.0, sign * z))
        return z, z

    steps = (reward, terminated, cut, sign, value)
    return jax.lax.scan(back, jnp.zeros_like(reward[0]), steps, reverse=True)[1]


def mctx_package() -> Any:
    """The package that searches; raises `MissingExtraError`."""
    with importing("mctx", "search"):
        import mctx
    return mctx
