"""The searching opponent: its playouts against all games counted out, forced moves, and strength that grows."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.drivers.match import Perfect, Random, match
from thorndike.drivers.searching import Searching
from thorndike.envs.batched import Batched
from thorndike.errors import ConfigError
from thorndike.ops.keys import random_key
from thorndike.planning import puct, turns
from thorndike.planning.turns import position
from thorndike.runs.results.games import simulations_of

pytest.importorskip("pgx")
GAME = td.make("pgx/tic_tac_toe")
LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def after(moves, n):
    """A timestep of n copies of the position after these cells were taken by turns."""
    world, step = Batched(GAME, n), jax.jit(Batched(GAME, n).step)
    now = world.reset(random_key(0))
    for t, cell in enumerate(moves):
        now = step(now, jnp.full(n, cell, jnp.int32), random_key(t))
    return now


def expected(mine, theirs):
    """What random play to the end earns the mover, over all games."""
    free = sorted(set(range(9)) - mine - theirs)
    if not free:
        return 0.0
    found = []
    for cell in free:
        after = mine | {cell}
        won = any(after.issuperset(line) for line in LINES)
        found.append(1.0 if won else -expected(theirs, after))
    return float(np.mean(found))


class Opposite(Searching):
    """A mutant: a playout's result is that of whoever moves second."""

    def playout(self, at, key):
        return -super().playout(at, key)


@pytest.fixture
def kind(monkeypatch):
    """A mutant: what is good for the other player is good for this one."""
    right = puct.moved

    def moved(*given):
        later, discount = right(*given)
        return later, jnp.abs(discount)

    def switch():
        monkeypatch.setattr(puct, "moved", moved)
        jax.clear_caches()

    yield switch
    monkeypatch.undo()
    jax.clear_caches()


POSITIONS = [(0, 4, 8, 2), (4, 0, 1), (0, 1, 2, 4)]


def played_out(kind):
    errors = []
    for moves in POSITIONS:
        found = kind(GAME, 1).playout(position(after(moves, 2000)), random_key(1))
        mine, theirs = set(moves[len(moves) % 2 :: 2]), set(moves[1 - len(moves) % 2 :: 2])
        errors.append(abs(float(found.mean()) - expected(mine, theirs)))
    return max(errors)


def test_playouts_are_random_play_to_the_end():
    assert played_out(Searching) < 0.06  # three deviations
    assert played_out(Opposite) > 0.2


def check_what_a_move_hands_back():
    """Of what follows a move nothing counts where the game is over, and the opposite where the other player moves."""
    at = position(after((0, 3, 1, 4), 2))
    step, discount = turns.moved(GAME, at.state, jnp.array([2, 8]), random_key(0))
    assert step.terminated.tolist() == [True, False]
    assert step.reward.tolist() == [1.0, 0.0]
    assert discount.tolist() == [0.0, -1.0]


def test_what_a_move_hands_back(monkeypatch):
    check_what_a_move_hands_back()
    ends = SimpleNamespace(**{**vars(jnp), "where": lambda when, a, b: b if isinstance(a, float) and a == 0 else jnp.where(when, a, b)})  # fmt: skip  # noqa: E501
    monkeypatch.setattr(turns, "jnp", ends)  # a mutant: the game goes on after its end
    with pytest.raises(AssertionError):
        check_what_a_move_hands_back()


def move_of(moves, simulations):
    return set(np.asarray(Searching(GAME, simulations).act(after(moves, 16), random_key(3))).tolist())


def test_it_wins_and_blocks(kind):
    """X has 0 and 1, O 3 and 4, and X moves: 2 wins. With O at 3 and 8 it is O's move, which has to be 2."""
    assert move_of((0, 3, 1, 4), 60) == {2}
    assert move_of((0, 8, 1), 200) == {2}
    kind()
    assert move_of((0, 8, 1), 200) != {2}


@pytest.mark.slow
def test_strength_grows_with_simulations(kind):
    """0.91 of the points against a random player with 100 simulations were measured; 0.29 to 0.39 against a perfect one
    with 100, and 0.44 with 400."""
    assert match(GAME, Searching(GAME, 100), Random(GAME.action_space), 60).score >= 0.8
    few, many = (match(GAME, Searching(GAME, n), Perfect(), 40).score for n in (4, 200))
    assert few < many - 0.1
    kind()
    assert match(GAME, Searching(GAME, 100), Random(GAME.action_space), 60).score < 0.8


def test_its_name():
    assert simulations_of("uct:200", GAME) == 200
    for name in ("uct:", "uct:0", "uct:many", "uct:-3"):
        with pytest.raises(ConfigError, match="followed by playouts"):
            simulations_of(name, GAME)
