"""AlphaZero learns tic-tac-toe from games against itself, and does not lose."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from trained import trained

import thorndike as td
from every_reply import every_reply
from thorndike.algorithms.search import alphazero
from thorndike.drivers.match import Perfect, Random, Trained, match
from thorndike.runs.training.setup import choose

GAME = "pgx/tic_tac_toe"


def player(tmp_path):
    algorithm, steps = choose("alphazero", GAME, None)
    run = trained(tmp_path, algorithm, GAME, steps)
    return Trained(run.algorithm, jax.tree.map(lambda x: x[0], run.actors()))


@pytest.mark.slow
def test_it_never_loses_at_tic_tac_toe(tmp_path):
    """Against every reply, from both sides; what a random player gives away it takes."""
    game, agent = td.make(GAME), player(tmp_path)
    for begins in (True, False):
        games, lost, _ = every_reply(game, agent, begins)
        assert games > 60
        assert lost == 0
    against = match(game, agent, Random(game.action_space), 2000)
    assert (against.first == 1).mean() >= 0.95
    assert (against.second == 1).mean() >= 0.75
    assert not match(game, agent, Perfect(), 200).results.any()


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["results of the wrong player"])
def test_bugs_lose(bug, tmp_path, monkeypatch):
    right = alphazero.results
    monkeypatch.setattr(alphazero, "results", lambda r, e, c, p, v: right(r, e, c, jnp.zeros_like(p), v))
    agent = player(tmp_path)
    assert sum(every_reply(td.make(GAME), agent, begins)[1] for begins in (True, False)) > 0


@pytest.mark.slow
def test_it_beats_a_random_player_at_connect_four(tmp_path):
    algorithm, steps = choose("alphazero", "pgx/connect_four", None)
    run = trained(tmp_path, algorithm, "pgx/connect_four", steps)
    result = run.match("random", 1000)
    print("connect four", steps, result, run.status)
    assert result.score >= 0.98
