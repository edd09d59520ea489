"""The rows name what exists, every algorithm has a quick one or a reason, and verdicts are those of known results."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

import thorndike as td
from thorndike.algorithms import algorithm_class, entries
from thorndike.bench import verdict
from thorndike.bench.measures import MEASURES
from thorndike.bench.row import Row, chosen
from thorndike.bench.rows import ROWS, WITHOUT
from thorndike.bench.verdict import MET, SHORT, UNKNOWN, judge
from thorndike.envs import BUILT_IN
from thorndike.errors import UnknownNameError
from thorndike.presets import has_preset

EVERY = [(suite, row) for suite, rows in ROWS.items() for row in rows]


def unexplained(rows, without):
    """Algorithms that neither have a row nor a reason, and those that have both."""
    have = {row.algorithm for row in rows}
    return set(entries()) - have - set(without), have & set(without)


def test_every_algorithm_has_a_quick_row_or_a_reason():
    assert unexplained(ROWS["quick"], WITHOUT) == (set(), set())
    assert set(WITHOUT) <= set(entries())
    assert all(len(why) > 20 for why in WITHOUT.values())
    for reason, suite in (("nightly", "nightly"), ("full", "full")):
        for name in [name for name, why in WITHOUT.items() if why.endswith(f": {reason}")]:
            assert name in {row.algorithm for row in ROWS[suite]}, f"{name} has no row in {suite}"


def test_a_missing_row_is_noticed():
    fewer = [row for row in ROWS["quick"] if row.algorithm != "trpo"]
    assert unexplained(fewer, WITHOUT) == ({"trpo"}, set())
    assert unexplained(ROWS["quick"], {**WITHOUT, "trpo": "too slow"}) == (set(), {"trpo"})


@pytest.mark.parametrize("suite", ROWS)
def test_rows_name_what_exists(suite):
    rows = ROWS[suite]
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        cls = algorithm_class(row.algorithm)
        assert row.algorithm in entries(), row.name  # the name itself and no alias
        dataclasses.replace(cls(), **row.fields).check()
        assert row.steps is not None or has_preset(cls, row.env), row.name
        assert row.planned > 0
        assert row.seeds >= (2 if suite == "quick" else 1)
        assert row.measure in MEASURES
        if row.env in BUILT_IN:
            td.make(row.env, **row.env_kwargs)


@pytest.mark.parametrize("suite", ROWS)
def test_numbers_have_sources(suite):
    for row in ROWS[suite]:
        assert row.source, row.name
        assert row.theirs is not None or row.threshold is not None or "no figure" in row.source, row.name
        assert row.tolerance >= 0
        assert not (row.tolerance and row.threshold is not None), f"{row.name}: a threshold needs no tolerance"


def test_quick_rows_are_short():
    assert all(row.planned * row.seeds <= 1_200_000 for row in ROWS["quick"])


def test_a_field_or_an_environment_that_does_not_exist_is_noticed():
    with pytest.raises(td.ConfigError, match="no field 'clipping'"):
        dataclasses.replace(td.PPO(), **Row("ppo", "CartPole-v1", fields={"clipping": 0.1}).fields)
    with pytest.raises(UnknownNameError):
        algorithm_class("dqnn")


# --- verdicts ---------------------------------------------------------------------------------------------------------

AT_LEAST = Row("dqn", "CartPole-v1", theirs=500.0, tolerance=25.0)
AT_MOST = Row("dyna-q", "DynaMaze", measure="length", theirs=14.0, tolerance=1.0)
OUTLIER = [490.0, 485.0, 495.0, 488.0, 480.0, 492.0, 487.0, 20.0]  # a mean of 429.6, an interquartile mean of 487.5
KNOWN = {
    "above": (AT_LEAST, [480.0, 490.0, 500.0], MET),
    "exactly": (AT_LEAST, [475.0, 475.0], MET),
    "below": (AT_LEAST, [474.0, 474.0], SHORT),
    "fewer are better": (AT_MOST, [14.0, 14.5], MET),
    "exactly so few": (AT_MOST, [15.0, 15.0], MET),
    "more are worse": (AT_MOST, [15.1, 15.1], SHORT),
    "one seed of eight fails": (AT_LEAST, OUTLIER, MET),
    "most seeds fail": (AT_LEAST, [500.0, 100.0, 100.0], SHORT),
    "one diverged": (AT_LEAST, [500.0, None, 500.0], SHORT),
    "all diverged": (AT_LEAST, [None, None], SHORT),
    "a threshold goes before theirs": (dataclasses.replace(AT_LEAST, threshold=450.0), [460.0, 460.0], MET),
    "nothing published": (Row("dqn", "CartPole-v1"), [500.0, 500.0], UNKNOWN),
    "another task": (dataclasses.replace(AT_LEAST, differs="200 steps"), [500.0, 500.0], UNKNOWN),
    "another task, with a threshold": (
        dataclasses.replace(AT_LEAST, differs="200 steps", threshold=475.0), [500.0, 500.0], MET,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_made_up_rows_get_their_verdict(name):
    row, scores, said = KNOWN[name]
    assert judge(row, scores).said == said


def wrong() -> list[str]:
    return [name for name, (row, scores, said) in KNOWN.items() if judge(row, scores).said != said]


def test_a_threshold_upside_down_is_noticed(monkeypatch):
    right, bar = verdict.reaches, Row.bar
    monkeypatch.setattr(verdict, "reaches", lambda ours, bar, lower: right(ours, bar, not lower))
    assert {"above", "below", "fewer are better", "more are worse"} < set(wrong())
    monkeypatch.setattr(verdict, "reaches", lambda ours, bar, lower: ours >= bar)
    assert wrong() == ["fewer are better", "more are worse"]
    monkeypatch.setattr(verdict, "reaches", right)
    monkeypatch.setattr(Row, "bar", lambda row, lower=False: bar(row, not lower))  # the tolerance on the wrong side
    assert {"above", "fewer are better"} < set(wrong())


def test_the_mean_in_the_place_of_the_iqm_is_noticed(monkeypatch):
    monkeypatch.setattr(verdict, "iqm_of", lambda scores: np.mean(scores[0], -1))
    assert wrong() == ["one seed of eight fails"]


def test_ours_is_the_trimmed_mean_of_scipy():
    """Of 4 n scores the interquartile mean leaves out n at each end."""
    scores = np.random.default_rng(0).normal(size=20)
    found = judge(AT_LEAST, scores)
    assert found.ours == pytest.approx(stats.trim_mean(scores, 0.25))
    assert found.low < found.ours < found.high
    assert not found.few
    assert judge(AT_LEAST, scores[:4]).few


# --- seeds, not episodes ----------------------------------------------------------------------------------------------


class FakeRun:
    """A finished run of which every episode is known: returns and lengths [R, N], and training episodes."""

    def __init__(self, returns):
        self.returns, self.runs = np.asarray(returns, float), len(returns)

    def evaluate(self, episodes):
        assert episodes == self.returns.shape[1]
        shape = self.returns.shape
        return td.Evaluation(self.returns, np.full(shape, 7), earned={"success": (self.returns > 450).astype(float)})

    def episodes(self):
        member = np.repeat(np.arange(self.runs), 150)
        order = np.tile(np.arange(150), self.runs)
        return {"member": member, "return": np.where(order < 50, 0.0, member + 1.0)}

    def metrics(self):
        return {"train/return_after": np.array([[0.0, 0.0], [-12.0, -14.0]])}


# two seeds whose episodes go well three times of four: as eight episodes their IQM is 500, as two runs it is 377.5
UNEVEN = [[500.0, 500.0, 500.0, 10.0], [500.0, 500.0, 500.0, 10.0]]


def test_seeds_are_scored_and_not_episodes():
    scores = MEASURES["return"].of(FakeRun(UNEVEN), 4)
    np.testing.assert_array_equal(scores, [377.5, 377.5])
    assert judge(AT_LEAST, scores).said == SHORT
    assert judge(AT_LEAST, FakeRun(UNEVEN).evaluate(4).returns).said == MET  # what pooled episodes would have said


def test_each_measure_is_one_number_of_each_seed():
    run = FakeRun([[500.0, 400.0], [500.0, 500.0]])
    expected = {
        "return": [450, 500], "success": [0.5, 1], "length": [7, 7], "training": [1, 2], "adapted": [-12, -14],
    }  # fmt: skip
    assert set(expected) == set(MEASURES)
    for name, numbers in expected.items():
        np.testing.assert_allclose(MEASURES[name].of(run, 2), numbers)


def test_rows_are_chosen_in_the_order_of_the_words():
    rows = ROWS["quick"]
    assert chosen(rows, ()) == list(rows)
    found = chosen(rows, ("ppo", "dqn/CartPole-v1"))
    assert [row.name for row in found] == ["ppo/CartPole-v1", "ppo/CartPoleNoVel-v1", "dqn/CartPole-v1"]
    assert {row.env for row in chosen(rows, ("DynaMaze",))} == {"DynaMaze"}
    with pytest.raises(UnknownNameError, match=r"no row 'CartPol-v1'.*CartPole-v1"):
        chosen(rows, ("CartPol-v1",))
