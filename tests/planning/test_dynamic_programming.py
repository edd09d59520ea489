"""Dynamic programming against linear programming, closed forms and Gymnasium's own tables; wrong versions miss them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import scipy.optimize

import thorndike as td
from thorndike.algorithms.planning.value_iteration import sweepable
from thorndike.errors import ConfigError, IncompatibleError
from thorndike.planning import dynamic_programming as dp


def random_model(seed: int) -> dp.Model:
    """A process of 4 to 12 states and 2 to 4 actions, some states terminal, few successors."""
    rng = np.random.default_rng(seed)
    states, actions = rng.integers(4, 13), rng.integers(2, 5)
    probability = rng.dirichlet(np.full(states, 0.2), (states, actions))
    reward = rng.normal(size=(states, actions))
    terminal = rng.random(states) < 0.2
    return dp.Model(probability, reward, terminal)  # rows of terminal states say anything: they have to be ignored


def optimum(model: dp.Model, discount: float) -> np.ndarray:
    """V* [S] by linear programming: min Σ v with v(s) >= R(s, a) + γ Σ P v, and v = 0 where episodes end."""
    states, actions = model.reward.shape
    rows = (np.eye(states)[:, None] - discount * model.probability).reshape(-1, states)
    open_ = np.repeat(~model.terminal, actions)
    bounds = [(0, 0) if ends else (None, None) for ends in model.terminal]
    found = scipy.optimize.linprog(
        np.ones(states), A_ub=-rows[open_], b_ub=-model.reward.reshape(-1)[open_], bounds=bounds
    )
    assert found.success, found.message
    return found.x


def distance(seeds=range(50), discount=0.9, solve=dp.value_iteration) -> float:
    """The largest difference from linear programming."""
    return max(
        np.abs(solve(random_model(seed), discount).v - optimum(random_model(seed), discount)).max() for seed in seeds
    )


@pytest.mark.parametrize("solve", [dp.value_iteration, dp.policy_iteration])
def test_values_are_those_of_linear_programming(solve):
    assert distance(solve=solve) < 1e-6
    assert all(dp.policy_iteration(random_model(seed), 0.9).rounds <= 20 for seed in range(50))


def test_bootstrapping_from_terminal_states_misses_them(monkeypatch):
    monkeypatch.setattr(dp, "q_of", lambda m, v, discount: m.reward + discount * m.probability @ v)
    assert distance() > 0.1


def test_rewards_of_the_next_state_miss_them(monkeypatch):
    q_of = dp.q_of
    late = lambda m, v, discount: q_of(m._replace(reward=m.probability @ m.reward.mean(1)), v, discount)  # noqa: E731
    monkeypatch.setattr(dp, "q_of", late)
    assert distance() > 0.1


def test_the_expectation_after_the_maximum_misses_them(monkeypatch):
    """max over successors in the place of their mean."""

    def q_of(m, v, discount):
        best = np.where(m.probability > 0.05, np.where(m.terminal, 0.0, v), -np.inf).max(-1)
        return np.where(m.terminal[:, None], 0.0, m.reward + discount * best)

    monkeypatch.setattr(dp, "q_of", q_of)
    assert distance() > 0.1


def test_the_tolerance_bounds_the_error_by_the_discount():
    """One state that pays 1 for ever is worth 1 / (1 - γ) = 1,000. A stop at ΔV < tolerance would be off by 1,000
    tolerances."""
    model = dp.Model(np.ones((1, 1, 1)), np.ones((1, 1)), np.array([False]))
    assert 1e-4 < 1_000 - dp.value_iteration(model, 0.999, tolerance=1e-2).v[0] < 1e-2
    wrong = 1_000 - dp.value_iteration(model, 0.999, tolerance=1e-2 * 0.999 / 0.001).v[0]
    assert wrong > 1


def test_a_policys_value_is_its_mean_return():
    """The random policy of a slippery grid by 4,000 simulated episodes; and a deterministic one in closed form."""
    env = td.GridWorld(map=("S.", ".G"), step_reward=-1.0, goal_reward=5.0, slip=0.3)
    model = dp.model_of(env)
    v = dp.evaluate_policy(model, np.full((4, 4), 0.25), 0.9)
    rng, returns = np.random.default_rng(0), []
    for _ in range(4_000):
        s, total, t = 0, 0.0, 0
        while not model.terminal[s]:
            a = rng.integers(4)
            total, t = total + 0.9**t * model.reward[s, a], t + 1
            s = rng.choice(4, p=model.probability[s, a])
        returns.append(total)
    assert abs(np.mean(returns) - v[0]) < 4 * np.std(returns) / np.sqrt(4_000)
    sure = dp.model_of(td.GridWorld(map=("S.G",), step_reward=-1.0, goal_reward=5.0))
    np.testing.assert_allclose(dp.evaluate_policy(sure, np.array([1, 1, 0]), 0.9), [-1 + 0.9 * 5, 5, 0])


@pytest.mark.parametrize("solve", [dp.value_iteration, dp.policy_iteration])
def test_known_worlds(solve):
    """The cliff's start is 13 steps from the goal; FrozenLake's known optimum; FourRooms' walls do no harm."""
    assert solve(dp.model_of(td.make("CliffWalking-v1")), 1.0).v[36] == pytest.approx(-13)
    assert solve(dp.model_of(td.make("DynaMaze")), 0.95).v[18] == pytest.approx(0.95**13)
    rooms = dp.model_of(td.four_rooms())
    np.testing.assert_allclose(solve(rooms, 1.0).v[rooms.terminal], 0)
    assert solve(rooms, 1.0).v[14] == pytest.approx(1)


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Taxi-v4", "CliffWalking-v1"])
def test_gymnasiums_tables_are_read(name):
    """The same values as of the built-in twin."""
    theirs = dp.value_iteration(dp.model_of(gymnasium.make(name)), 0.9)
    ours = dp.policy_iteration(dp.model_of(td.make(name)), 0.9)
    starts = {"CliffWalking-v1": [36]}.get(name, slice(None))  # cells of the cliff are no states here
    np.testing.assert_allclose(theirs.v[starts], ours.v[starts], atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_sweeps_over_outcomes_are_sweeps_over_states(seed):
    model = random_model(seed)
    v = np.random.default_rng(seed).normal(size=len(model.terminal))
    found = sweepable(model).q(np.float32(v), 0.9)
    np.testing.assert_allclose(found, dp.q_of(model, v, 0.9), atol=1e-5)


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(IncompatibleError, match="CartPole does not say its transition probabilities"):
        dp.model_of(td.CartPole())
    half = random_model(0)._replace(probability=random_model(0).probability / 2)

    class Half:
        def transitions(self):
            return half

    with pytest.raises(ConfigError, match=r"action 0 in state 0 sum to 0.5"):
        dp.model_of(Half())
    forever = dp.Model(np.ones((1, 1, 1)), np.ones((1, 1)), np.array([False]))
    with pytest.raises(ConfigError, match=r"after 1,000 sweeps.*a discount below 1"):
        dp.value_iteration(forever, 1.0, most=1_000)
    with pytest.raises(ConfigError, match="take a discount below 1"):
        dp.policy_iteration(forever, 1.0)
