"""Play against everything that an opponent can do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.envs.batched import Simulator
from thorndike.ops.keys import random_key
from thorndike.types import Timestep

ROWS = 1024  # positions at a time: one shape, one compilation; tic-tac-toe has at most 945 replies to a fixed player


@jax.jit
def _step(game: Any, state: Any, action: Any) -> Any:
    return jax.vmap(lambda s, a: game.step(s, a, random_key(0)))(state, action)


@jax.jit
def _act(player: Any, now: Timestep, key: Any) -> Any:
    return player.act(now, key)


def every_reply(game: Any, player: Any, begins: bool) -> tuple[int, int, list[tuple[np.ndarray, np.ndarray]]]:
    """Games, losses, and (observations, moves) of `player` against every sequence of legal replies.

    An illegal move of the player raises.
    """
    fresh = game.reset(random_key(0))
    states = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], ROWS, 0), fresh.state)
    obs, mask = (np.repeat(np.asarray(x)[None], ROWS, 0) for x in (fresh.obs, fresh.info["mask"]))
    count, games, losses, mine, seen = 1, 0, 0, begins, []
    while count:
        if mine:
            no, none = np.zeros(ROWS, bool), np.zeros(ROWS, np.float32)
            now = Timestep(obs, none, no, no, obs, no, {"mask": mask}, Simulator(states, none))
            parents = np.arange(count)
            actions = np.asarray(_act(player, now, random_key(1)))[:count]
            assert mask[parents, actions].all(), "an illegal move"
            seen.append((obs[:count], actions))
        else:
            parents, actions = np.nonzero(mask[:count])
        n = len(parents)
        assert n <= ROWS
        where = np.concatenate([parents, np.zeros(ROWS - n, int)])
        moves = jnp.asarray(np.concatenate([actions, np.full(ROWS - n, mask[0].argmax())]))
        after = jax.device_get(_step(game, jax.tree.map(lambda x, where=where: x[where], states), moves))
        over = after.terminated[:n]
        games += over.sum()
        losses += (over & ((after.reward[:n] < 0) if mine else (after.reward[:n] > 0))).sum()
        left = np.flatnonzero(~over)
        count, mine = len(left), not mine
        keep = np.concatenate([left, np.zeros(ROWS - count, int)])
        states = jax.tree.map(lambda x, keep=keep: x[keep], after.state)
        obs, mask = after.obs[keep], after.info["mask"][keep]
    return int(games), int(losses), seen
