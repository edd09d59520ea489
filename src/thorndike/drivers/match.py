"""Matches in games of two players: trained agents, a random player and a perfect one, each as first and as second."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space

from thorndike.drivers.evaluate import fault
from thorndike.drivers.evaluation import Evaluation
from thorndike.drivers.health import step_faults
from thorndike.drivers.learner import random_action
from thorndike.drivers.scan import member, transition
from thorndike.envs.batched import Batched
from thorndike.errors import ConfigError
from thorndike.ops.keys import random_key
from thorndike.types import Array, PyTree, Timestep


class Trained(eqx.Module):
    """An agent, at its best: without what makes it explore."""

    algorithm: Any
    actor: PyTree

    def act(self, now: Timestep, key: Array) -> Array:
        """Moves [B]."""
        carry = self.algorithm.carry(self.actor, now.reward.shape[0])
        return self.algorithm.act(self.actor, carry, now, key, False)[0]


class Random(eqx.Module):
    """Any legal move."""

    space: Space = eqx.field(static=True)

    def act(self, now: Timestep, key: Array) -> Array:
        """Moves [B]."""
        return random_action(self.space, now, key)


class Perfect(eqx.Module):
    """Tic-tac-toe by minimax: any of the best moves."""

    values: Array  # [3^9, 9]: the result of each move for its mover; -2 where it is illegal

    def __init__(self) -> None:
        self.values = jnp.asarray(tic_tac_toe())

    def act(self, now: Timestep, key: Array) -> Array:
        """Moves [B]; observations [B, 3, 3, 2] are the mover's stones and the other's."""
        stones = now.obs.reshape((-1, 9, 2)).astype(jnp.int32)
        values = self.values[(stones @ jnp.array([1, 2])) @ (3 ** jnp.arange(9))]
        best = values == values.max(-1, keepdims=True)
        return jnp.where(best, jax.random.uniform(key, values.shape), -1.0).argmax(-1)


@lru_cache(maxsize=1)
def tic_tac_toe() -> np.ndarray:
    """Minimax over all positions [3^9, 9]; each is Σ 3^cell, times 1 for the mover's stones and 2 for the other's."""
    lines = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
    table, known = np.full((3**9, 9), -2, np.int8), {}

    def best(mine: frozenset[int], theirs: frozenset[int]) -> int:
        if (mine, theirs) not in known:
            code = sum(3**cell for cell in mine) + sum(2 * 3**cell for cell in theirs)
            for cell in set(range(9)) - mine - theirs:
                after = mine | {cell}
                won = any(cell in line and after.issuperset(line) for line in lines)
                full = len(after) + len(theirs) == 9
                table[code, cell] = 1 if won else 0 if full else -best(theirs, after)
            known[mine, theirs] = int(table[code].max())
        return known[mine, theirs]

    best(frozenset(), frozenset())
    return table


@dataclasses.dataclass(frozen=True)
class Match:
    """Results for one side, game by game: 1 won, 0 drawn, -1 lost."""

    first: np.ndarray  # of the games that it began
    second: np.ndarray  # of the others
    lengths: np.ndarray  # moves in each game, those that it began first

    @property
    def results(self) -> np.ndarray:
        """All results, those of the games that it began first."""
        return np.concatenate([self.first, self.second])

    @property
    def score(self) -> float:
        """Points per game: 1 for a win, 1/2 for a draw."""
        return float((np.sign(self.results).mean() + 1) / 2)

    def __str__(self) -> str:
        sides = {"as first": self.first, "as second": self.second}
        return "; ".join(
            f"{side} {(r > 0).sum()} won, {(r == 0).sum()} drawn, {(r < 0).sum()} lost" for side, r in sides.items()
        )


def match(game: Any, one: Any, other: Any, games: int = 100, seed: int = 0, opening: int = 0) -> Match:
    """`games` games of `one` against `other`; in the first half, rounded up, `one` begins.

    The first `opening` moves of each game are random: players without randomness would repeat one game.

    Raises:
        EnvError: where the game shows or gives what is not finite, is outside of its space, or allows no move.
    """
    if games < 2:
        raise ConfigError(f"a match has at least 2 games, one begun by each side; got {games}")
    sizes, keys = (games - games // 2, games // 2), jax.random.split(random_key(seed))
    sides = [
        _games(Batched(game, n), one, other, key, begins, opening) for n, key, begins in zip(sizes, keys, (True, False))
    ]
    (first, long, odd), (second, short, strange) = jax.device_get(sides)
    wrong = np.concatenate([odd, strange])
    if wrong.any():
        i = np.flatnonzero(wrong)[0]
        raise fault(game, i, wrong[i])
    return Match(first, second, np.concatenate([long, short]))


def against_random(algorithm: Any, actors: PyTree, game: Any, games: int, seed: int = 0) -> Evaluation:
    """Matches of each of the actors [R] against a random player; a return is 1 for a win, 0 for a draw, -1 for a loss,
    first those of the games that the agent began."""
    found = []
    for i in range(jax.tree.leaves(actors)[0].shape[0]):
        player = Trained(member(algorithm, i), jax.tree.map(lambda x, i=i: x[i], actors))
        found.append(match(game, player, Random(game.action_space), games, seed))
    return Evaluation(np.stack([one.results for one in found]), np.stack([one.lengths for one in found]))


@jax.jit
def _games(
    world: Batched, one: Any, other: Any, key: Array, begins: Array | bool, opening: Array | int
) -> tuple[Array, Array, Array]:
    """Results for `one` and lengths of `world.num_envs` games, and the fault of each, if any [B].

    All stop with the first fault.
    """
    key, reset_key = jax.random.split(key)
    now = world.reset(reset_key)
    mover = lambda now: jax.vmap(world.env.player)(now.sim.state)  # type: ignore[attr-defined]  # noqa: E731
    me = jnp.where(begins, mover(now), 1 - mover(now))

    def step(state):
        now, key, result, length, over, _ = state
        key, *keys = jax.random.split(key, 5)
        mine = mover(now) == me
        action = jnp.where(mine, one.act(now, keys[0]), other.act(now, keys[1]))
        action = jnp.where(length < opening, random_action(world.env.action_space, now, keys[3]), action)
        later, before = world.step(now, action, keys[2]), over
        result += jnp.where(over, 0.0, jnp.where(mine, later.reward, -later.reward))
        wrong = jnp.where(over, 0, step_faults(world.env, transition(now, action, {}, later)))
        over |= later.terminated | later.truncated
        return later._replace(earned={}), key, result, length + ~before, over, wrong

    none = jnp.zeros(world.num_envs, jnp.int32)
    start = (now, key, jnp.zeros(world.num_envs), none, none > 0, none)
    going = lambda state: ~state[-2].all() & ~state[-1].any()  # noqa: E731
    *_, result, length, _, wrong = jax.lax.while_loop(going, step, start)
    return result, length, wrong


def elo(scores: np.ndarray, games: int) -> np.ndarray:
    """Elo ratings [N] by maximum likelihood, the first player's being 0; 400 points are odds of 10 to 1.

    Minorisation-maximisation for the Bradley-Terry model (Hunter 2004), with one drawn game added to every pair, so
    that nobody's rating is infinite.

    Args:
        scores: [N, N], points per game of the row's player against the column's; the diagonal is not read.
        games: how many games each pair played.
    """
    n = len(scores)
    apart = ~np.eye(n, dtype=bool)
    played = np.where(apart, games + 1.0, 0.0)
    points = np.where(apart, scores * games + 0.5, 0.0).sum(1)
    strength = np.ones(n)
    for _ in range(10_000):
        new = points / (played / (strength[:, None] + strength)).sum(1)
        new /= np.exp(np.log(new).mean())
        if np.abs(np.log(new / strength)).max() < 1e-9:
            break
        strength = new
    ratings = 400 * np.log10(strength)
    return ratings - ratings[0]
