"""MuZero learns a model good enough to search in: CartPole, and tic-tac-toe from games against itself."""

from __future__ import annotations

import pytest
from trained import greedy, trained

import thorndike as td


@pytest.mark.slow
def test_it_balances_the_pole(tmp_path):
    run = trained(tmp_path, td.preset("muzero", "CartPole-v1"), "CartPole-v1", 80_000, seeds=2)
    found = greedy(run, 20)
    print("muzero CartPole-v1", found, run.status["seconds"])
    assert found.min() >= 400


@pytest.mark.slow
def test_values_that_the_network_gave_long_ago_hold_it_back(tmp_path, monkeypatch):
    """Targets made when a step was played are those of a worse player: what v(s) learns lags far behind."""

    def act(self, actor, carry, now, key, explore):
        action, carry, seen = right(self, actor, carry, now, key, explore)
        return action, carry, {**seen, "value": self.look(actor, carry, now, explore)[0].value}

    def old(self, steps, value, sign):
        return targets(self, steps, steps.extras["value"], sign)

    right, targets = td.MuZero.act, td.MuZero.targets
    monkeypatch.setattr(td.MuZero, "act", act)
    monkeypatch.setattr(td.MuZero, "targets", old)
    run = trained(tmp_path, td.MuZero(trace=0.95), "CartPole-v1", 80_000, seeds=2)
    found = greedy(run, 20)
    print("muzero CartPole-v1, old values", found, run.metrics()["train/value"][-1])
    assert found.mean() < 300


@pytest.mark.xfail(reason="two players are learned weakly: 0.73 to 0.96 of the games are won as first", strict=False)
@pytest.mark.slow
def test_it_beats_a_random_player_at_tic_tac_toe(tmp_path):
    algorithm = td.preset("muzero", "pgx/tic_tac_toe")
    run = trained(tmp_path, algorithm, "pgx/tic_tac_toe", 120_000)
    result = run.match("random", 2000)
    print("muzero tic-tac-toe", result, run.status["seconds"])
    assert (result.first > 0).mean() >= 0.8
    assert (result.second >= 0).mean() >= 0.7
