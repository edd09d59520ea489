"""Successive halving against brute force on made-up curves, scores of episodes, and draws from ranges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

import thorndike as td
from thorndike.errors import ConfigError, DivergedError
from thorndike.runs.tuning import halving
from thorndike.runs.tuning.halving import Round, Scores, going_on, halve, rounds
from thorndike.runs.tuning.ranges import drawn
from thorndike.runs.tuning.scores import tail

STEPS, FACTOR, FIRST = 64, 3, 1 / 16


class Trials:
    """Trials with made-up learning curves [n, STEPS + 1], NaN from where one has diverged; they count their steps."""

    def __init__(self, curves):
        self.curves, self.at, self.work = curves, np.zeros(len(curves), int), 0

    def advance(self, plan):
        def to_the_end_of(i, trials):
            self.work += int((plan[i].until - self.at[trials]).sum())
            self.at[trials] = plan[i].until
            values = self.curves[trials, self.at[trials]]
            return Scores(values, np.isnan(values))

        return to_the_end_of


def made_up(seed, n=27):
    """Curves that rise at different rates to different heights, so that early and late orders differ; some diverge."""
    rng = np.random.default_rng(seed)
    height, rate = rng.normal(size=(n, 1)), rng.uniform(1, 60, (n, 1))
    curves = height * (1 - np.exp(-np.arange(STEPS + 1) / rate)) + 0.02 * rng.normal(size=(n, STEPS + 1))
    for i in np.flatnonzero(rng.random(n) < 0.2):
        curves[i, rng.integers(STEPS) :] = np.nan
    return curves


def by_hand(curves):
    """The winner, written down as the papers say it, with loops and nothing else, and the steps that it takes."""
    alive, until, before, work = set(range(len(curves))), 4, 0, 0
    while 2 * until <= STEPS and len(alive) > 1:
        work += len(alive) * (until - before)
        quota = len(alive) // FACTOR if len(alive) >= FACTOR else 1
        healthy = [i for i in alive if not math.isnan(curves[i][until])]
        while len(healthy) > quota:
            worst = healthy[0]
            for i in healthy:
                if curves[i][until] < curves[worst][until]:
                    worst = i
            healthy.remove(worst)
        alive, before, until = set(healthy), until, until * FACTOR
    work += len(alive) * (STEPS - before)
    finals = {i: curves[i][STEPS] for i in alive if not math.isnan(curves[i][STEPS])}
    return max(finals, key=lambda i: finals[i]) if finals else None, work


SEEDS = [seed for seed in range(60) if by_hand(made_up(seed))[0] is not None]


def test_the_winner_is_that_of_brute_force():
    assert len(SEEDS) > 40
    for seed in SEEDS:
        curves = made_up(seed)
        clean = np.where(np.isnan(curves), -100.0, curves)  # nobody diverges: the papers' case, to the step
        plan, trials = rounds(27, STEPS, FACTOR, FIRST), Trials(clean)
        found = halve(plan, trials.advance(plan))
        winner, work = by_hand(clean)
        assert (found[0].trial, trials.work) == (winner, work)
        assert found[0].score == clean[winner, STEPS]
        assert sorted(one.trial for one in found) == list(range(27))
    assert plan == [Round(4, 27), Round(12, 9), Round(64, 3)]
    assert work == 27 * 4 + 9 * 8 + 3 * 52  # for 27 * 64 without cuts


def worst_first(alive, scores, size):
    well = np.flatnonzero(~scores.lost)
    return sorted(alive[i] for i in well[np.argsort(scores.values[well])][:size])


def by_first_score(standings):
    """Whoever led in the first round wins."""
    return sorted(standings, key=lambda one: -EARLY[one.trial])


EARLY: dict[int, float] = {}


@pytest.mark.parametrize(
    ("name", "mutant"),
    [("going_on", worst_first), ("ranked", by_first_score), ("ranked", lambda all: sorted(all, key=lambda x: x.score))],
    ids=["the worst go on", "an early score decides", "the worst of the last wins"],
)
def test_mistakes_are_seen(name, mutant, monkeypatch):
    monkeypatch.setattr(halving, name, mutant)
    wrong = 0
    for seed in SEEDS[:20]:
        clean = np.where(np.isnan(made_up(seed)), -100.0, made_up(seed))
        EARLY.update(enumerate(clean[:, 4]))
        plan = rounds(27, STEPS, FACTOR, FIRST)
        wrong += halve(plan, Trials(clean).advance(plan))[0].trial != by_hand(clean)[0]
    assert wrong > 5


def test_what_diverges_is_last_and_never_goes_on(monkeypatch):
    curves = np.tile(np.arange(8.0)[:, None], (1, STEPS + 1))
    curves[7, 2:] = np.nan  # the best until it diverges in the first round
    curves[6, 30:] = np.nan  # and the second best in the last
    plan = rounds(8, STEPS, 2, FIRST)
    trials = Trials(curves)
    found = halve(plan, trials.advance(plan))
    assert found[0].trial == 5
    assert {one.trial for one in found[-2:]} == {6, 7}
    assert all(one.lost for one in found[-2:])
    assert trials.at[7] == plan[0].until

    def nan_is_best(alive, scores, size):  # as argsort()[::-1] has it
        return sorted(alive[i] for i in np.argsort(scores.values)[::-1][:size])

    monkeypatch.setattr(halving, "going_on", nan_is_best)
    monkeypatch.setattr(halving, "ranked", lambda all: [all[i] for i in np.argsort([x.score for x in all])[::-1]])
    assert halve(plan, Trials(curves).advance(plan))[0].trial in (6, 7)


def test_where_all_diverge_it_is_said():
    plan = rounds(4, STEPS, 2, FIRST)
    with pytest.raises(DivergedError, match="all 4 trials have diverged by step 4: give other ranges"):
        halve(plan, Trials(np.full((4, STEPS + 1), np.nan)).advance(plan))


def test_a_cut_waits_for_a_score_of_every_trial():
    scores = Scores(np.array([1.0, np.nan, 3.0, np.nan]), np.array([False, False, False, True]))
    assert going_on([4, 5, 6, 7], scores, 1) == [4, 5, 6]
    assert going_on([4, 5, 6, 7], Scores(scores.values, np.array([False, True, False, True])), 1) == [6]


def test_equals_are_not_cut_apart():
    none = np.zeros(6, bool)
    assert going_on(range(6), Scores(np.full(6, -500.0), none), 2) == [0, 1, 2, 3, 4, 5]
    assert going_on(range(6), Scores(np.array([1.0, 3, 2, 2, 0, 2]), none), 2) == [1, 2, 3, 5]
    assert going_on(range(6), Scores(np.array([1.0, 3, 2, 2.5, 0, 2]), none), 2) == [1, 3]
    assert going_on(range(6), Scores(np.arange(6.0), none), 6) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("trials", "steps", "factor", "first", "chunk"), [
    (64, 20_000, 4, 1 / 16, 1024), (64, 1_000_000, 4, 1 / 64, 1024), (1, 100, 2, 0.1, 1), (5, 100, 2, 0.9, 8),
])  # fmt: skip
def test_rounds_are_whole_rollouts_and_spare_most_of_the_work(trials, steps, factor, first, chunk):
    plan = rounds(trials, steps, factor, first, chunk)
    ends = [one.until for one in plan]
    assert ends[-1] == -(-steps // chunk) * chunk
    assert all(end % chunk == 0 for end in ends)
    assert ends[0] >= 4 * chunk
    assert ends == sorted(set(ends))
    assert all(2 * end <= ends[-1] for end in ends[:-1])
    assert plan[0].size == trials
    assert all(b.size == max(1, a.size // factor) for a, b in itertools.pairwise(plan))


def test_the_first_cut_comes_after_learning():
    """All trials play the first rollout alike, and what replays plays at random at first."""
    assert rounds(64, 100_000, 4, 1e-9, 100)[0].until == 400
    assert rounds(64, 100_000, 4, 1e-9, 100, warm=50)[0].until == 10_000


def test_a_score_is_of_the_last_part():
    episodes = {"step": np.arange(1, 101) * 10, "return": np.arange(100.0)}
    every = np.ones(100, bool)
    assert tail(episodes, every, 1000) == np.arange(75, 100).mean()
    assert tail(episodes, every, 100_000) == np.arange(90, 100).mean()  # none that late: the last ten
    assert math.isnan(tail(episodes, ~every, 1000))


# --- ranges -----------------------------------------------------------------------------------------------------------


def chi_square(share, bins=20):
    """The p-value of numbers in [0, 1] being uniform."""
    return scipy.stats.chisquare(np.histogram(share, bins, (0, 1))[0]).pvalue


def test_log_ranges_are_uniform_in_the_logarithm():
    u = np.random.default_rng(0).random(5000)
    values = np.array(td.LogRange(1e-4, 1e-2).at(u))
    assert values.min() >= 1e-4 * (1 - 1e-6)
    assert values.max() <= 1e-2
    assert chi_square(np.log(values / 1e-4) / np.log(100)) > 0.01
    assert chi_square((values - 1e-4) / (1e-2 - 1e-4)) < 1e-10
    even = np.array(td.Range(1e-4, 1e-2).at(u))
    assert chi_square((even - 1e-4) / (1e-2 - 1e-4)) > 0.01
    assert chi_square(np.log(even / 1e-4) / np.log(100)) < 1e-10  # a range that forgets its logarithm is seen


def test_settings_fill_every_range_and_are_independent():
    over = {"a": td.LogRange(1e-4, 1e-2), "b": td.Range(0, 1), "c": td.Choices("x", "y", "z")}
    columns = {name: [one[name] for seed in range(40) for one in drawn(over, 24, seed)] for name in over}
    a, b = np.log(np.array(columns["a"]) / 1e-4) / np.log(100), np.array(columns["b"])
    for start in range(0, len(a), 24):  # one in each 24th of the range, of each tune
        assert sorted((a[start : start + 24] * 24).astype(int)) == list(range(24))
    assert abs(scipy.stats.pearsonr(a, b).statistic) < 0.1
    joint = np.histogram2d(a, b, 4, ((0, 1), (0, 1)))[0]
    assert scipy.stats.chi2_contingency(joint).pvalue > 0.001
    assert {name: columns["c"].count(name) for name in "xyz"} == {"x": 320, "y": 320, "z": 320}
    assert drawn(over, 24, 0) == drawn(over, 24, 0) != drawn(over, 24, 1)


PPO = td.PPO(rollout_length=16)
BAD = [
    ({"over": {}}, r"say what to tune, and over what: over=\{"),
    ({"over": {"clip": (0.1, 0.3)}}, r"clip is to be tuned over \(0.1, 0.3\), which is no range"),
    ({"over": {"clip": td.Range(0.3, 0.1)}}, "the range of clip is empty: 0.3 is not below 0.1; give the lower end"),
    ({"over": {"clip": td.Range(0.1, 0.1)}}, "the range of clip is empty.*or set clip itself"),
    ({"over": {"clip": td.Range(0.1, math.inf)}}, "the range of clip needs two finite numbers"),
    ({"over": {"clip": td.LogRange(0, 0.1)}}, "begins at 0, which has no logarithm: use td.Range"),
    ({"over": {"clip": td.Choices(0.1)}}, "the choices of clip need at least two values"),
    ({"over": {"clip": td.Range(-1, 1)}}, "the range of clip has values that it cannot have: PPO.clip must be above 0"),
    ({"over": {"epochs": td.Range(1.5, 4)}}, "epochs is a whole number, and its range has the ends 1.5 and 4"),
    ({"over": {"core": td.Range(1, 4)}}, "the range of core has values that it cannot have: PPO.core should be"),
    ({"over": {"learning_rat": td.Range(0, 1)}}, r"no field 'learning_rat' .*did you mean 'learning_rate'"),
    ({"over": {"torso": td.Choices(1, 2), "torso.widths": td.Choices(1, 2)}}, "torso.widths is a part of torso"),
    ({"over": {"epochs": td.Range(1, 4)}, "method": "population"}, "epochs: a program is compiled for each value"),
    ({"env": "gymnasium/CartPole-v1", "method": "population"}, "a population needs a JAX environment"),
    ({"method": "grid"}, "method must be 'auto', 'population' or 'optuna'"),
    ({"trials": 0}, "trials must be a whole number, at least 1, got 0"),
    ({"trials": 2.5}, "trials must be a whole number, at least 1, got 2.5"),
    ({"factor": 1}, "factor must be a whole number, at least 2, got 1"),
    ({"first": 0}, r"first is the fraction of the steps before the first cut, in \(0, 1\], got 0"),
    ({"steps": 0}, "steps must be a positive whole number"),
    ({"algorithm": td.PPO(clip=np.array([0.1, 0.2]))}, "there are arrays in what is to be tuned"),
    ({"algorithm": "bc"}, "BC learns from a dataset, and has no training episodes"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), BAD)
def test_bad_input_says_what_to_do(changes, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {"algorithm": PPO, "env": "CartPole-v1", "over": {"clip": td.Range(0.1, 0.3)}, "steps": 64, **changes}
    with pytest.raises(ConfigError, match=says):
        td.tune(**asked)
    assert not list(tmp_path.iterdir())
