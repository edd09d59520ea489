"""Dyna-Q, Dyna-Q+ and prioritised sweeping: their models and updates in closed form and against dynamic programming,
and the learning curves of Sutton & Barto's mazes."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from trained import greedy, trained

import thorndike as td
from thorndike.algorithms.tabular import dyna
from thorndike.planning import dynamic_programming as dp
from thorndike.types import Rollout

S, A = 6, 3


def world(seed=0):
    """A deterministic world: successor, reward and end of every pair [S, A], and its Q* with γ = 0.9. State 5 ends."""
    rng = np.random.default_rng(seed)
    successor, reward = rng.integers(0, S, (S, A)), rng.normal(size=(S, A)).astype(np.float32)
    successor[2, 1] = 5
    terminated = successor == 5
    model = dp.Model(np.eye(S)[successor], reward.astype(float), np.arange(S) == 5)
    return successor, reward, terminated, dp.value_iteration(model, 0.9).q


def fed(algorithm, s, a, successor, reward, terminated, state=None):
    """The state after these steps [T], made one after another; and the metrics."""
    s, a = np.asarray(s)[:, None], np.asarray(a)[:, None]
    no = np.zeros(s.shape, bool)
    steps = td.Transition(s, no, a, {}, reward[s, a], terminated[s, a], no, successor[s, a], {})
    if state is None:
        state = algorithm.init(jax.random.key(0), td.Spec(Discrete(len(reward)), Discrete(reward.shape[1]), 100))
    return jax.jit(algorithm.learn)(state, Rollout(steps, (), None), jax.random.key(1))


def all_pairs(seed=1):
    pairs = np.random.default_rng(seed).permutation(5 * A)
    return np.divmod(pairs, A)


def test_the_model_is_what_happened_last():
    """Against a dictionary, in a world that answers differently the second time."""
    rng, seen, state = np.random.default_rng(0), {}, None
    for seed in (0, 1):
        successor, reward, terminated, _ = world(seed)
        s, a = rng.integers(0, 5, 12), rng.integers(0, A, 12)
        state, metrics = fed(td.DynaQ(planning=0), s, a, successor, reward, terminated, state)
        for pair in zip(s.tolist(), a.tolist()):
            seen[pair] = (successor[pair], reward[pair], terminated[pair])
    model = state.model
    assert {(s, a) for s, a in np.argwhere(model.known).tolist()} == set(seen)
    assert [divmod(int(i), A) for i in model.order[: len(seen)]] == list(seen)  # in the order of their first time
    assert int(model.size) == len(seen) == int(metrics["model_size"])
    for pair, (successor, reward, terminated) in seen.items():
        assert (model.successor[pair], model.terminated[pair]) == (successor, terminated)
        assert float(model.reward[pair]) == float(reward)


def planned(algorithm) -> float:
    """How far Q is from Q* after each pair was tried once and there was much planning."""
    successor, reward, terminated, exact = world()
    state, _ = fed(algorithm, *all_pairs(), successor, reward, terminated)
    return np.abs(np.asarray(state.q)[:5] - exact[:5]).max()


MANY = td.DynaQ(planning=2_000, discount=0.9, learning_rate=0.5, initial_value=5.0)
SWEEPING = td.PrioritisedSweeping(planning=200, discount=0.9, learning_rate=1.0, threshold=1e-6)


@pytest.mark.parametrize("algorithm", [MANY, SWEEPING], ids=["dyna-q", "sweeping"])
def test_planning_finds_the_optimal_values(algorithm):
    assert planned(algorithm) < 1e-3


def test_models_that_are_wrong_do_not(monkeypatch):
    """A model that is never written, one without terminations, and planning with pairs that were never tried."""
    remember = dyna.remember
    unknown = lambda m, seen, untried: remember(m, seen, untried)._replace(successor=m.successor, reward=m.reward)  # noqa: E731
    endless = lambda m, seen, untried: remember(m, seen, untried)._replace(terminated=m.terminated)  # noqa: E731
    for wrong in (unknown, endless):
        monkeypatch.setattr(dyna, "remember", wrong)
        assert planned(MANY) > 0.1
    monkeypatch.undo()
    successor, reward, terminated, _ = world()
    for untried in (False, True):
        monkeypatch.setattr(td.DynaQ, "plans_untried", untried)
        state, _ = fed(MANY, [0, 0], [0, 0], successor, reward, terminated)
        np.testing.assert_array_equal(np.asarray(state.q)[1:], 5)
        assert ((np.asarray(state.q)[0, 1:] != 5) == untried).all()
        assert int(state.model.size) == (A if untried else 1)


def chain(n=8):
    """Action 0 goes right, action 1 stays; the end on the right pays 1."""
    successor = np.stack([np.minimum(np.arange(n) + 1, n - 1), np.arange(n)], 1)
    end = (successor == n - 1) & (np.arange(n) < n - 1)[:, None]
    return successor, np.where(end, 1.0, 0.0).astype(np.float32), end


def reached(algorithm, n=8):
    """How many states know of the goal after the chain was walked once, from the left to the right."""
    successor, reward, terminated = chain(n)
    state, _ = fed(algorithm, np.arange(n - 1), np.zeros(n - 1, int), successor, reward, terminated)
    return int((np.asarray(state.q)[:, 0] > 0).sum()), np.asarray(state.q)


def test_sweeping_goes_backwards_from_what_changed(monkeypatch):
    """n updates reach the n states before the goal, with their exact values; an update of what follows reaches one."""
    for n in (1, 4, 7):
        found, q = reached(td.PrioritisedSweeping(planning=n, learning_rate=1.0, discount=0.5))
        assert found == n
        np.testing.assert_allclose(q[7 - n : 7, 0], 0.5 ** np.arange(n - 1, -1, -1.0), rtol=1e-6)
    assert reached(td.PrioritisedSweeping(planning=7, learning_rate=1.0, threshold=0.1, discount=0.5))[0] == 4
    monkeypatch.setattr(dyna, "leading_to", lambda m, s: m.known & (m.successor == m.successor[s, 0]) & ~m.terminated)
    assert reached(td.PrioritisedSweeping(planning=7, learning_rate=1.0, discount=0.5))[0] == 1


def test_the_most_urgent_comes_first():
    """Of three pairs that wait, the one with the largest error is updated."""
    successor, reward = np.full((3, 2), 2), np.array([[1, 0], [-5, 2], [0, 0]], np.float32)
    lazy = td.PrioritisedSweeping(planning=1, learning_rate=1.0, threshold=10.0)
    state, _ = fed(lazy, [0, 1, 1], [0, 1, 0], successor, reward, successor == 2)
    np.testing.assert_array_equal(state.q, 0)
    state = state._replace(priority=abs(state.model.reward))
    q, priority = (np.asarray(x) for x in lazy.plan(state, jax.random.key(0))[0][:3:2])
    np.testing.assert_array_equal(q, [[0, 0], [-5, 0], [0, 0]])
    np.testing.assert_array_equal(priority, [[1, 0], [0, 2], [0, 0]])


def test_the_bonus_grows_with_the_root_of_time():
    """κ √τ in planning alone, τ = 0 for what was just tried; what was never tried counts from the beginning."""
    successor, reward = np.zeros((1, 2), int), np.zeros((1, 2), np.float32)
    algorithm = td.DynaQPlus(planning=0, bonus=0.5)
    state, _ = fed(algorithm, np.zeros(9, int), np.zeros(9, int), successor, reward, successor > 0)
    np.testing.assert_array_equal(state.q, 0)
    assert float(algorithm.curiosity(state.model, 0, 0)) == 0
    assert float(algorithm.curiosity(state.model, 0, 1)) == 1.5
    state, _ = fed(algorithm, [0], [1], successor, reward, successor > 0, state)
    assert [float(algorithm.curiosity(state.model, 0, a)) for a in (0, 1)] == [0.5, 0]


def test_illegal_actions_are_neither_planned_with_nor_bootstrapped_from():
    algorithm = td.DynaQPlus(planning=50, learning_rate=1.0, discount=0.9, bonus=0.0)
    state = algorithm.init(jax.random.key(0), td.Spec(Discrete(2), Discrete(2), 100))
    state = state._replace(q=state.q.at[1].set(np.array([1.0, 5.0])))
    one, no = np.zeros((1, 1), int), np.zeros((1, 1), bool)
    masks = {"mask": np.array([[[True, False]]]), "next_mask": np.array([[[True, False]]])}
    steps = td.Transition(one, no, one, {}, np.float32(one), no, no, one + 1, masks)
    state, _ = algorithm.learn(state, Rollout(steps, (), None), jax.random.key(0))
    np.testing.assert_allclose(state.q, [[0.9, 0], [1, 5]], rtol=1e-6)
    assert int(state.model.size) == 1


def test_a_count_bonus_is_refused():
    """It belongs to what counts visits; planning has none."""
    for algorithm in (td.DynaQ, td.DynaQPlus, td.PrioritisedSweeping):
        with pytest.raises(td.ConfigError, match="leave count_bonus out"):
            algorithm(count_bonus=0.5).check()


# --- learning curves --------------------------------------------------------------------------------------------------


def by_member(run, seeds):
    """The lengths of the training episodes of each run, and the steps at which they ended."""
    found = run.episodes()
    return [(found["length"][found["member"] == i], found["step"][found["member"] == i]) for i in range(seeds)]


def early(tmp_path, planning, steps):
    """Steps in episodes 2 to 10 of Dyna's maze, whose shortest way has 14: [6]."""
    run = trained(tmp_path, td.DynaQ(planning=planning), "DynaMaze", steps, seeds=6)
    if planning:
        assert (greedy(run, 4) == 1).all()
    return np.array([lengths[1:10].sum() for lengths, _ in by_member(run, 6)])


def test_planning_saves_experience(tmp_path):
    """Measured: 151 to 185 with 50 updates a step from the model, 374 to 416 with 5, 1,972 to 6,297 with none."""
    assert (early(tmp_path, 50, 3_000) <= 500).all()
    assert (early(tmp_path, 0, 12_000) >= 1_000).all()


def shortcut(tmp_path, algorithm):
    """Which of six runs take the shortcut, 10 steps for 16, in the last 1,000 steps, 2,000 after it opened."""
    run = trained(tmp_path, algorithm, "ShortcutMaze", 6_000, seeds=6)
    return np.array([(lengths[ends > 5_000] < 16).any() for lengths, ends in by_member(run, 6)])


@pytest.mark.slow
def test_a_bonus_finds_the_shortcut(tmp_path, monkeypatch):
    """Dyna-Q's model says that there is none, and so does Dyna-Q+'s where τ never grows: they mostly find none."""
    assert shortcut(tmp_path, td.preset("dyna-q-plus", "ShortcutMaze")).all()
    assert shortcut(tmp_path, td.preset("dyna-q", "ShortcutMaze")).mean() <= 0.5
    monkeypatch.setattr(td.DynaQPlus, "curiosity", lambda self, model, s, a: 0.0 * self.bonus)
    assert shortcut(tmp_path, td.preset("dyna-q-plus", "ShortcutMaze")).mean() <= 0.5


@pytest.mark.slow
def test_sweeping_needs_fewer_updates(tmp_path):
    """Both with α = 0.5 and 5 updates a step: sweeping's first episodes are the shorter ones."""
    algorithms = (td.PrioritisedSweeping(), td.DynaQ(planning=5, learning_rate=0.5))
    runs = [trained(tmp_path, algorithm, "DynaMaze", 3_000, seeds=6) for algorithm in algorithms]
    sweeping, uniform = (np.array([lengths[1:4].sum() for lengths, _ in by_member(run, 6)]) for run in runs)
    assert np.median(sweeping) < np.median(uniform)
    assert (greedy(runs[0], 4) == 1).all()
