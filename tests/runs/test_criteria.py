"""Criteria of a run: the numbers they come from, a rule as baseline, and what counts as a failure."""

from __future__ import annotations

import json

import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.cli import main
from thorndike.drivers.evaluation import Evaluation
from thorndike.runs.results.criteria import _failures


def upright(obs):
    """Push the cart to where the pole falls: hundreds of steps."""
    return int(obs[2] + 0.3 * obs[3] > 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small.train("PPO", tmp_path_factory.mktemp("criteria") / "run", steps=64, seeds=2)


def test_a_good_rule_beats_an_untrained_agent(run):
    found = td.criteria(run, upright, episodes=10)
    mine, theirs, gap, low, high = found.returns
    assert mine == pytest.approx(run.evaluate(10).mean)
    assert theirs > 150
    assert gap == pytest.approx(mine - theirs)
    assert low <= gap <= high < 0
    assert not found.beats_baseline
    text = " ".join(str(found).split())
    assert "below the baseline" in text
    assert "2 runs, fewer than 5: too narrow" in text
    assert "the rule upright" in text


def test_numbers(run):
    found = td.criteria(run, episodes=10, failure_below=1e6, claim=0.05)
    assert (found.failures, found.episodes) == (20, 20)
    assert found.failure_rate[0] == 1
    assert found.episodes_needed == 59
    assert 0 < found.latency.p50 <= found.latency.p99
    assert found.steps == run.status["steps"]
    assert {"gravity", "pole_mass"} <= set(found.shifts)
    heavier = run.evaluate(10, env=td.CartPole(gravity=1.2 * td.CartPole().gravity))
    assert found.shifts["gravity"][1] == pytest.approx(heavier.mean)
    assert "not shown" in str(found)


def test_what_counts_as_a_failure():
    returns, none = np.array([[1.0, 5.0, 9.0]]), np.zeros((1, 3), int)
    success, cost = np.array([[1.0, 0.0, 1.0]]), np.array([[0.0, 0.0, 2.0]])
    told = Evaluation(returns, none, earned={"success": success, "cost": cost})
    assert _failures(told, None, 4)[1].tolist() == [[False, True, False]]
    assert _failures(told, 6, 4)[1].tolist() == [[True, True, False]]
    assert _failures(Evaluation(returns, none, earned={"cost": cost}), None, 4)[1].tolist() == [[False, False, True]]
    assert _failures(Evaluation(returns, none), None, 4)[1].tolist() == [[True, False, False]]


def test_another_run_as_baseline_and_the_command(run, tmp_path, capsys):
    (tmp_path / "rules.py").write_text("def left(obs):\n    return 0\n")
    words = ["criteria", str(run.path), "--episodes", "5", "--json"]
    assert main([*words, "--baseline", f"{tmp_path}/rules.py:left"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"][1] == pytest.approx(9.4, abs=1.5)  # always left
    assert main([*words, "--baseline", str(run.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["returns"][2] == 0
    assert main(["criteria", str(run.path), "--baseline", "nobody"]) == 2
    assert "a baseline is random, a function in a file" in capsys.readouterr().err


def test_mistakes(run):
    with pytest.raises(td.ConfigError, match="answered 7, which is no action of Discrete"):
        td.criteria(run, lambda obs: 7)
    with pytest.raises(td.ConfigError, match="failed on an observation: IndexError"):
        td.criteria(run, lambda obs: obs[10])
    with pytest.raises(td.ConfigError, match="claim is a rate"):
        td.criteria(run, claim=0.0)
    with pytest.raises(td.IncompatibleError, match="the observation_space of that environment"):
        run.evaluate(2, env="Pendulum-v1")
