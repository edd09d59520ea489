"""Cliff walking (Sutton & Barto, example 6.6): 500 episodes, α = 0.5, ε = 0.1, 20 seeds.

Thresholds from exact runs of the algorithms' definitions: online returns -49.5 ± 6.4 (Q-learning), -27.1 ± 6.3
(SARSA), -20.0 ± 1.4 (Expected SARSA).
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import greedy, trained

import thorndike as td
from thorndike.algorithms.tabular import td_control

STEPS = {"q-learning": 9_000, "sarsa": 14_000, "expected-sarsa": 9_000}  # about 500 episodes each


def cliff(tmp_path, name, **fields):
    cls = {"q-learning": td.QLearning, "sarsa": td.SARSA, "expected-sarsa": td.ExpectedSARSA}[name]
    run = trained(tmp_path, cls(**fields), "CliffWalking-v1", STEPS[name], seeds=20)
    return run, np.array(run.status["return_mean"])


def check(name, run, online):
    if name == "q-learning":
        assert (greedy(run, 2) == -13).all(), greedy(run, 2)
        assert -60 < online.mean() < -40, online.mean()
    else:
        assert online.mean() > {"sarsa": -35, "expected-sarsa": -24}[name], online.mean()


@pytest.mark.parametrize("name", STEPS)
def test_cliff_walking(name, tmp_path):
    run, online = cliff(tmp_path, name)
    assert 300 < run.metrics()["rollout/episodes"][-1].mean() < 900
    check(name, run, online)


def test_the_three_targets_in_closed_form():
    """One update from a known table: max, expectation under ε-greedy, and the action that was taken next."""
    from thorndike.types import Rollout, Transition

    q = np.array([[1.0, 2.0, 3.0], [4.0, 8.0, 6.0]], np.float32)
    now = Transition(
        obs=np.array([[0], [1]]), first=np.zeros((2, 1), bool), action=np.array([[1], [2]]), extras={},
        reward=np.array([[10.0], [0.0]], np.float32), terminated=np.array([[False], [True]]),
        truncated=np.zeros((2, 1), bool), next_obs=np.array([[1], [0]]), info={},
    )  # fmt: skip
    epsilon = 0.3
    expected = {
        "q-learning": 10 + 0.9 * 8.0,
        "expected-sarsa": 10 + 0.9 * (0.7 * 8.0 + 0.3 * 6.0),
        "sarsa": 10 + 0.9 * 6.0,
    }
    import jax
    from gymnasium.spaces import Discrete

    for name, target in expected.items():
        cls = {"q-learning": td.QLearning, "sarsa": td.SARSA, "expected-sarsa": td.ExpectedSARSA}[name]
        algorithm = cls(discount=0.9, learning_rate=0.5, exploration=td.Epsilon(start=epsilon, end=epsilon))
        state = algorithm.init(jax.random.key(0), td.Spec(Discrete(2), Discrete(3), 100))._replace(q=jax.numpy.array(q))
        after, _ = algorithm.learn(state, Rollout(now, (), None), jax.random.key(1))
        assert np.isclose(after.q[0, 1], 2.0 + 0.5 * (target - 2.0)), name
        if name != "sarsa":  # its second step still waits
            assert np.isclose(after.q[1, 2], 6.0 + 0.5 * (0.0 - 6.0)), name


CLASSES = {"q-learning": td.QLearning, "sarsa": td.SARSA, "expected-sarsa": td.ExpectedSARSA}


def learned(algorithm, q, obs, action, reward, next_obs, terminated=True, mask=None):
    """The table after one step [E] from `q`; SARSA finishes it with the next one, in another episode or the same."""
    import jax
    from gymnasium.spaces import Discrete

    from thorndike.types import Rollout, Transition

    obs, action, next_obs, reward = (np.atleast_2d(x) for x in (obs, action, next_obs, np.float32(reward)))
    ended = np.full(obs.shape, terminated)
    info = {} if mask is None else {"next_mask": np.asarray(mask)[None]}
    steps = Transition(obs, ended & False, action, {}, reward, ended, ~ended, next_obs, info)
    state = algorithm.init(jax.random.key(0), td.Spec(Discrete(q.shape[0]), Discrete(q.shape[1]), 100))
    state, _ = algorithm.learn(state._replace(q=jax.numpy.array(q)), Rollout(steps, (), None), jax.random.key(1))
    if isinstance(algorithm, td.SARSA):
        begun = steps._replace(first=~steps.first)
        state, _ = algorithm.learn(state, Rollout(begun, (), None), jax.random.key(1))
    return np.asarray(state.q)


@pytest.mark.parametrize("name", STEPS)
def test_environments_that_meet_move_a_value_by_their_mean(name):
    """Six of eight took the same action in the same state: Q moves by α times their mean error, not by their sum."""
    algorithm = CLASSES[name](num_envs=8, learning_rate=0.5)
    reward = [-1, -2, -3, -1, -2, -3, -4, -8]
    after = learned(algorithm, np.zeros((2, 2), np.float32), [0] * 7 + [1], [1] * 6 + [0, 1], reward, [0] * 8)
    np.testing.assert_allclose(after, [[-2.0, -1.0], [0.0, -4.0]])


@pytest.mark.parametrize("name", STEPS)
def test_what_is_not_legal_next_is_worth_nothing(name):
    """Truncated, so that SARSA too takes the policy's mean: of the legal actions, of which the best is worth 6."""
    q = np.array([[1.0, 2.0, 3.0], [4.0, 8.0, 6.0]], np.float32)
    algorithm = CLASSES[name](num_envs=1, discount=0.9, learning_rate=0.5, exploration=td.Epsilon(start=0.3, end=0.3))
    legal, all_of_them = 0.7 * 6.0 + 0.3 * 5.0, 0.7 * 8.0 + 0.3 * 6.0
    for mask, best, mean in (([[True, False, True]], 6.0, legal), (None, 8.0, all_of_them)):
        after = learned(algorithm, q, 0, 1, 10.0, 1, False, mask)
        target = 10 + 0.9 * (best if name == "q-learning" else mean)
        np.testing.assert_allclose(after[0, 1], 2.0 + 0.5 * (target - 2.0), rtol=1e-6)


@pytest.mark.parametrize("explore", [False, True])
def test_a_tables_actions_are_legal(explore):
    import jax
    from gymnasium.spaces import Discrete

    algorithm = td.QLearning(exploration=td.Epsilon(start=0.5, end=0.5))
    state = algorithm.init(jax.random.key(0), td.Spec(Discrete(1), Discrete(3), 100))
    state, no = state._replace(q=np.float32([[1, 2, 3]])), np.zeros(300, bool)
    obs, mask = np.zeros(300, int), np.tile([True, True, False], (300, 1))
    now = td.Timestep(obs, np.zeros(300), no, no, obs, no, {"mask": mask})
    action, *_ = algorithm.act(algorithm.actor(state), (), now, jax.random.key(0), explore)
    assert set(np.asarray(action).tolist()) == ({0, 1} if explore else {1})


def test_a_step_that_waited_when_a_run_was_resumed_is_not_finished_by_another_episode():
    import jax
    from gymnasium.spaces import Discrete

    from thorndike.types import Rollout, Transition

    algorithm = td.SARSA(num_envs=2)
    state = algorithm.init(jax.random.key(0), td.Spec(Discrete(4), Discrete(2), 100))
    waiting = {name: np.full(2, value) for name, value in {"s": 0, "a": 1, "next": 1}.items()}
    waiting |= {"known": np.array([0, 1]), "target": np.array([5.0, 7.0])}
    no = np.zeros((1, 2), bool)
    then = Transition(
        obs=np.full((1, 2), 2), first=~no, action=np.ones((1, 2), int), extras={}, reward=np.zeros((1, 2)),
        terminated=no, truncated=no, next_obs=np.full((1, 2), 3), info={},
    )  # fmt: skip
    for steps, learned in ((then, 7.0), (then._replace(first=no), 6.0)):  # the one whose episode had ended; both
        after, _ = algorithm.learn(state._replace(waiting=waiting), Rollout(steps, (), None), jax.random.key(1))
        expected = algorithm.learning_rate * learned
        assert np.isclose(after.q[0, 1], expected), (after.q, expected)


def test_swapped_targets_learn_the_other_path(tmp_path, monkeypatch):
    """Q-learning's maximum in SARSA's place walks the cliff's edge; an expectation in Q-learning's place does not."""
    monkeypatch.setattr(td.ExpectedSARSA, "next_value", td.QLearning.next_value)
    _, online = cliff(tmp_path, "expected-sarsa")
    assert online.mean() < -40, online.mean()  # as Q-learning's own
    monkeypatch.undo()
    average = lambda self, q, level, mask: (self.exploration.probabilities(q, level, mask) * q).sum(-1)  # noqa: E731
    monkeypatch.setattr(td.QLearning, "next_value", average)
    run, online = cliff(tmp_path, "q-learning")
    assert (greedy(run, 2) == -15).mean() > 0.5  # a row away from the edge
    assert online.mean() > -30, online.mean()


def test_an_unmasked_termination_misses_the_value_of_the_start(tmp_path, monkeypatch):
    """The start is worth -13. Values that go on beyond the goal, where the table was never touched, are not."""

    def value_of_the_start():
        run, _ = cliff(tmp_path, "q-learning", initial_value=5.0)
        return np.asarray(run.agent().actor.q)[36].max()

    assert abs(value_of_the_start() + 13) < 0.5
    monkeypatch.setattr(
        td_control, "td_target", lambda reward, next_value, terminated, discount: reward + discount * next_value
    )
    assert abs(value_of_the_start() + 13) > 4
