"""Comparisons of runs, from what they logged: words, numbers, and clear errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats

import thorndike as td
from runs import fake_runs
from thorndike.cli import main


def run(path, last, env="CartPole-v1", algorithm="PPO", tag="rollout/ep_rew_mean", rows=4, **more):
    """A run whose seeds end at `last`."""
    columns = {tag: np.linspace(0.25, 1, rows)[:, None] * np.asarray(last, float)}
    return fake_runs.make(path, algorithm, env, columns, seeds=len(last), **more)


def test_a_large_difference_is_settled(tmp_path):
    high, low = np.linspace(450, 500, 6), np.linspace(100, 160, 6)
    found = td.compare(run(tmp_path / "a", high), run(tmp_path / "b", low), labels=("new", "old"))
    first, second = found.sides
    assert found.better == "new"
    assert found.p_value == pytest.approx(2 / 924)  # no other deal of 12 runs is as far apart, but for the opposite
    assert first.estimates["iqm"][0] == pytest.approx(scipy.stats.trim_mean(np.repeat(high, 4), 0.25))
    assert first.estimates["median"][0] == pytest.approx(np.median(high))
    assert first.estimates["mean"][0] == pytest.approx(high.mean())
    assert "optimality_gap" not in first.estimates
    assert found.improvement == [1.0, 1.0, 1.0]
    assert (first.reached, second.reached) == (3, 0)  # of 475, Gymnasium's threshold
    assert found.more_seeds == 0
    assert "new is better than old" in str(found)
    assert "fewer than" not in str(found)
    assert "more seeds" not in str(found)
    assert td.compare(tmp_path / "b", tmp_path / "a").better == "B"


def test_few_seeds_settle_nothing_and_say_so(tmp_path):
    found = td.compare(run(tmp_path / "a", [480, 490, 500]), run(tmp_path / "b", [400, 450, 485]))
    assert found.better is None
    assert "not settled: A is ahead of B" in str(found)
    assert str(found).count("3 runs, fewer than 5: the true interval is wider") == 2
    assert "about 2 more seeds of each" in str(found) or "more seeds of each would settle it" in str(found)


def test_one_seed_and_no_difference(tmp_path):
    one = td.compare(run(tmp_path / "a", [5.0]), run(tmp_path / "b", [4.0]))
    assert "one seed says nothing about others" in str(one)
    assert one.to_json()["more_seeds"] is None
    same = td.compare(run(tmp_path / "c", [5.0] * 6), run(tmp_path / "d", [5.0] * 6))
    assert same.p_value == 1
    assert "score the same" in str(same)
    assert same.improvement[0] == 0.5


def test_runs_of_one_seed_each_are_runs_as_well(tmp_path):
    a = [run(tmp_path / f"a{i}", [400.0 + i], seed=i) for i in range(6)]
    b = run(tmp_path / "b", [300.0, 310, 320, 330, 340, 350])
    assert td.compare(a, b).better == "A"


def test_several_environments_are_put_on_one_scale(tmp_path):
    rng = np.random.default_rng(0)
    a = [run(tmp_path / "a1", 400 + rng.random(5)), run(tmp_path / "a2", -200 + rng.random(5), env="Pendulum-v1")]
    b = [run(tmp_path / "b1", 300 + rng.random(5)), run(tmp_path / "b2", -900 + rng.random(5), env="Pendulum-v1")]
    found = td.compare(a, b)
    assert found.better == "A"
    assert found.sides[0].estimates["iqm"][0] == pytest.approx(1, abs=0.02)
    assert found.sides[1].estimates["optimality_gap"][0] == pytest.approx(1, abs=0.02)
    assert "5 runs of each of 2 environments" in str(found)
    given = td.compare(a, b, scale={"CartPole-v1": (0, 500), "Pendulum-v1": (-1000, 0)})
    assert given.sides[0].estimates["mean"][0] == pytest.approx(0.8, abs=0.01)
    with pytest.raises(td.ConfigError, match="only one side has runs on Pendulum-v1"):
        td.compare(a, b[:1])
    with pytest.raises(td.ConfigError, match="scale lacks Pendulum-v1"):
        td.compare(a, b, scale={"CartPole-v1": (0, 500)})
    with pytest.raises(td.ConfigError, match="must rise"):
        td.compare(a[0], b[0], scale={"CartPole-v1": (500, 0)})


def test_evaluations_are_taken_where_all_have_some(tmp_path):
    tag = "eval/mean_reward"
    a, b = run(tmp_path / "a", [1.0] * 5, tag=tag), run(tmp_path / "b", [2.0] * 5, tag=tag)
    assert "the last evaluation while training" in td.compare(a, b).what
    with pytest.raises(td.ConfigError, match="nothing to compare yet"):
        td.compare(a, run(tmp_path / "c", [2.0] * 5))  # which has only training episodes, and they have none


def test_what_to_bear_in_mind_is_said(tmp_path):
    a = run(tmp_path / "a", [1.0, 2.0, np.nan, 3.0, 4.0, 5.0])
    found = td.compare(a, run(tmp_path / "b", [1.0] * 6, rows=8))
    assert "left out: 1 of A's runs without a score" in str(found)
    assert "different numbers of steps: A 4,000, B 8,000" in str(found)


def test_time_to_threshold_and_curves(tmp_path):
    a, b = run(tmp_path / "a", [100.0] * 5, rows=10), run(tmp_path / "b", [50.0] * 5, rows=10)
    found = td.compare(a, b, threshold=50)
    curve = found.sides[0].curves["CartPole-v1"]
    fast = curve["steps"][int(np.argmax(np.array(curve["iqm"]) >= 50))]
    assert found.sides[0].steps_to_threshold == fast
    assert found.sides[1].steps_to_threshold == 10_000
    assert "5 of 5 runs reached 50, in the median after 10,000 steps" in str(found)
    assert td.compare(a, b, threshold=1000).to_json()["sides"][0]["steps_to_threshold"] is None
    assert "threshold" not in str(td.compare(a, b, threshold=None))


def test_the_command(tmp_path, capsys):
    a, b = str(run(tmp_path / "a", [480.0] * 5)), str(run(tmp_path / "b", [100.0] * 5, algorithm="DQN"))
    assert main(["compare", a, "--vs", b]) == 0
    assert "PPO is better than DQN" in capsys.readouterr().out
    picture = tmp_path / "compare.svg"
    assert main(["compare", a, "--vs", b, "--json", "--out", str(picture)]) == 0
    assert json.loads(capsys.readouterr().out)["better"] == "PPO"
    assert picture.read_text().count("performance profile") or picture.stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "name the runs of both sides"),
        (["A"], "name the runs of both sides"),
        (["A", "--vs", "nowhere"], "there is no run at nowhere"),
        (["A", "--vs", "A"], "on both sides"),
        (["A", "A", "--vs", "B"], "twice"),
        (["A", "--vs", "SWEEP"], "is a sweep of learning_rate"),
        (["A", "--vs", "B", "--labels", "x", "x"], "two different names"),
        (["A", "--vs", "B", "--labels", "x"], "give two labels"),
    ],
)
def test_mistakes(tmp_path, capsys, words, text):
    run(tmp_path / "A", [1.0] * 5)
    run(tmp_path / "B", [2.0] * 5)
    fake_runs.make(tmp_path / "SWEEP", sweep={"learning_rate": [1e-3, 1e-4]})
    named = [str(tmp_path / w) if w in ("A", "B", "SWEEP") else w for w in words]
    assert main(["compare", *named]) == 2
    assert text in capsys.readouterr().err
