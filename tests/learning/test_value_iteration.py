"""Value and policy iteration as algorithms: their tables are the solutions, and what they do earns what these say."""

from __future__ import annotations

import numpy as np
import pytest
from trained import greedy, trained

import thorndike as td
from thorndike.algorithms.planning import value_iteration
from thorndike.errors import ConfigError, IncompatibleError
from thorndike.planning import dynamic_programming as dp

NAMES = ("value-iteration", "policy-iteration")


def off(tmp_path, name, env, steps=None, **fields):
    """How far the table is from Q*, at the most, and the run."""
    algorithm = td.preset(name, env, **fields)
    run = trained(tmp_path, algorithm, env, steps or type(algorithm).presets()[env]["steps"])
    exact = dp.policy_iteration(dp.model_of(td.make(env)), algorithm.discount).q
    return np.abs(np.asarray(run.agent().actor.q) - exact).max(), run


def steps_to_the_goal(discount):
    """The mean of FourRooms' optimal policy, 15.0, by a linear system: t = 1 + P_π t where the episode goes on."""
    model = dp.model_of(td.four_rooms())
    policy = dp.value_iteration(model, discount).q.argmax(-1)
    starts = td.four_rooms().layout.starts
    chain = model.probability[starts, policy[starts]][:, starts]
    return np.linalg.solve(np.eye(len(starts)) - chain, np.ones(len(starts))).mean()


@pytest.mark.parametrize("env", ["CliffWalking-v1", "FourRooms", "FrozenLake-v1"])
@pytest.mark.parametrize("name", NAMES)
def test_presets_find_the_optimal_values(name, env, tmp_path):
    distance, run = off(tmp_path, name, env)
    assert distance < 1e-3
    if env == "CliffWalking-v1":
        assert (greedy(run, 4) == -13).all()
    if env == "FourRooms":
        lengths = run.evaluate(2_000).lengths
        assert abs(lengths.mean() - steps_to_the_goal(0.99)) < 4 * lengths.std() / np.sqrt(lengths.size)
    if env == "FrozenLake-v1":
        assert run.evaluate(1_000).returns.mean() > 0.70  # 0.744 at most


@pytest.mark.slow
@pytest.mark.parametrize("env", sorted(td.ValueIteration.presets()))
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_finds_the_optimal_values(name, env, tmp_path):
    assert off(tmp_path, name, env)[0] < 1e-2


def test_values_spread_by_one_step_a_sweep(tmp_path):
    """After k sweeps of the corridor exactly the k cells next to the goal know of it."""
    env = td.GridWorld(map=("S.....G",), step_reward=0.0, goal_reward=1.0)
    for sweeps in (1, 3):
        run = trained(tmp_path, td.ValueIteration(discount=0.5), env, sweeps)
        v = np.asarray(run.agent().actor.q).max(-1)
        np.testing.assert_allclose(v, [0.5 ** (5 - s) if 5 - s < sweeps else 0 for s in range(6)] + [0])


def test_evaluating_another_policy_or_rewarding_later_misses_the_optimum(tmp_path, monkeypatch):
    q = value_iteration.Sweepable.q
    monkeypatch.setattr(value_iteration.Sweepable, "q", lambda self, v, d: q(self, v, d) - self.reward + 0.5)
    assert off(tmp_path, "value-iteration", "FrozenLake-v1")[0] > 0.1
    monkeypatch.setattr(value_iteration.Sweepable, "q", q)
    monkeypatch.setattr(td.PolicyIteration, "plan", lambda self, q, model: model.q(q.mean(-1), self.discount))
    assert off(tmp_path, "policy-iteration", "FrozenLake-v1")[0] > 0.1


def test_environments_without_probabilities_are_refused(tmp_path):
    for env, what in (("CartPole-v1", "CartPole"), ("gymnasium/FrozenLake-v1", "this environment")):
        with pytest.raises(IncompatibleError, match=rf"transition probabilities, which {what} does not say.*FourRooms"):
            td.train("value-iteration", env, 100, out=tmp_path / "run", progress=False)
    many = td.GridWorld(slip=np.array([0.0, 0.1]))
    with pytest.raises(ConfigError, match="cannot be swept then: train once for each"):
        td.train("value-iteration", many, 100, out=tmp_path / "run", progress=False)


def test_an_agent_and_a_picture_of_its_values(tmp_path):
    _, run = off(tmp_path, "value-iteration", "CliffWalking-v1")
    agent = td.load(run.agent().save(tmp_path / "cliff.td"))
    assert agent.act(36) == 0
    run.picture(tmp_path / "values.png")
    assert (tmp_path / "values.png").stat().st_size > 10_000
