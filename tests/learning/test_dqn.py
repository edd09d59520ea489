"""DQN on CartPole and Acrobot, and what its parts are for."""

from __future__ import annotations

import subprocess
import sys

import equinox as eqx
import jax
import numpy as np
import pytest
from trained import trained

import thorndike as td
from thorndike.runs.training.setup import choose


@pytest.mark.slow
def test_cartpole_in_100k_steps(tmp_path):
    """In all seeds but one at most: of ten one ended at 359, and which hangs on the last digits of sums.

    In a process of its own, as on the command line: those digits depend on how many devices share the seeds, which JAX
    otherwise has from whatever ran first.
    """
    command = [sys.executable, "-m", "thorndike", "train", "dqn", "CartPole-v1", "--steps", "100000", "--seeds", "6"]
    subprocess.run([*command, "--out", str(tmp_path / "run")], check=True, capture_output=True)
    evaluation = td.open_run(tmp_path / "run").evaluate(50)
    assert evaluation.mean >= 475, evaluation.per_run
    assert sorted(evaluation.per_run)[1] >= 475, evaluation.per_run


@pytest.mark.slow
def test_acrobot_in_100k_steps(tmp_path):
    algorithm, _ = choose("dqn", "Acrobot-v1", None)
    evaluation = trained(tmp_path, algorithm, "Acrobot-v1", 100_000, seeds=4).evaluate(50)
    print("Acrobot-v1", evaluation)
    assert min(evaluation.per_run) >= -95, evaluation.per_run


def test_targets_in_closed_form():
    """θ⁻ values the next action; θ chooses it with double targets; a terminated step has no future, a mask no say."""
    online, frozen = np.array([[0, 9, 3], [5, 4, 3], [5, 4, 3]]), np.array([[4, 1, 7], [2, 8, 6], [2, 8, 6]])
    empty = dict.fromkeys(("obs", "first", "action", "truncated"), None)
    batch = td.Transition(
        **empty, reward=np.array([1.0, 1.0, 1.0]), terminated=np.array([False, False, True]), next_obs=None,
        extras={}, info={},
    )  # fmt: skip
    plain, double = td.DQN(discount=0.5, double=False), td.DQN(discount=0.5, double=True)
    np.testing.assert_allclose(plain.target(frozen, online, batch), [1 + 0.5 * 7, 1 + 0.5 * 8, 1])
    np.testing.assert_allclose(double.target(frozen, online, batch), [1 + 0.5 * 1, 1 + 0.5 * 2, 1])
    masked = batch._replace(info={"next_mask": np.array([[True, True, False]] * 3)})
    np.testing.assert_allclose(plain.target(frozen, online, masked), [1 + 0.5 * 4, 1 + 0.5 * 8, 1])


def test_the_target_stands_still_between_copies():
    """Hard copies come every `target_period` updates and not in between: a dropped target network fails here."""
    algorithm = td.DQN(learning_rate=1e-3, target_period=3, torso=td.Torso(widths=(4,)))
    env = td.CartPole()
    state = algorithm.init(jax.random.key(0), td.Spec(env.observation_space, env.action_space, 100))
    none = np.zeros(8, bool)
    obs = np.ones((8, 4), np.float32)
    batch = td.Transition(obs, none, none.astype(int), {}, np.ones(8, np.float32), none, none, obs, {})
    same = []
    for _ in range(6):
        before = state.target
        state, _ = algorithm.update(state, batch, jax.random.key(1))
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(state.target))
        still = all(np.array_equal(a, b) for a, b in pairs)
        copied = all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(state.q), jax.tree.leaves(state.target)))
        assert still != copied
        same.append(still)
    assert same == [True, True, False, True, True, False]


@pytest.mark.parametrize(("progress", "worse"), [(0, 0.4), (50, 0.25), (100, 0.1)])
def test_training_explores_and_evaluation_does_not(progress, worse):
    """ε falls from 0.8 to 0.2 over the run; half of what it chooses is the worse of two actions."""
    epsilon = td.Epsilon(start=0.8, end=0.2, fraction=1.0)
    algorithm = td.DQN(learning_rate=1e-3, exploration=epsilon, torso=td.Torso(widths=(4,)))
    env, n = td.CartPole(), 4000
    state = algorithm.init(jax.random.key(0), td.Spec(env.observation_space, env.action_space, 100))
    q = eqx.tree_at(lambda q: q.head.bias, jax.tree.map(np.zeros_like, state.q), np.float32([0, 5]))
    actor = algorithm.actor(state._replace(q=q, clock=state.clock._replace(steps=np.int32(progress))))
    obs, no = np.ones((n, 4), np.float32), np.zeros(n, bool)
    now = td.Timestep(obs, np.zeros(n, np.float32), no, no, obs, no, {})
    training, evaluation = (algorithm.act(actor, (), now, jax.random.key(1), explore)[0] for explore in (True, False))
    np.testing.assert_allclose((training == 0).mean(), worse, atol=0.035)  # over four standard errors
    assert (evaluation == 1).all()


def one_update(online, frozen, **fields):
    """The state and the metrics of one update, with r = 1 and a = 0, where θ and θ⁻ say these values everywhere."""
    algorithm = td.DQN(discount=0.5, learning_rate=1e-3, torso=td.Torso(widths=(4,)), **fields)
    env = td.CartPole()
    state = algorithm.init(jax.random.key(0), td.Spec(env.observation_space, env.action_space, 100))
    zeros = jax.tree.map(np.zeros_like, state.q)
    q, target = (eqx.tree_at(lambda q: q.head.bias, zeros, np.float32(bias)) for bias in (online, frozen))
    none = np.zeros(8, bool)
    obs = np.ones((8, 4), np.float32)
    batch = td.Transition(obs, none, none.astype(int), {}, np.ones(8, np.float32), none, none, obs, {})
    return algorithm.update(state._replace(q=q, target=target), batch, jax.random.key(1))


def update_towards(target_bias):
    """The TD error of one update of a Q that is 0 everywhere, with a θ⁻ that says `target_bias` everywhere."""
    return one_update([0, 0], [target_bias] * 2)[1]["td_error"]


@pytest.mark.parametrize(("double", "error"), [(False, 1 + 0.5 * 10 - 1), (True, 1 + 0.5 * 2 - 1)])
def test_an_update_with_double_targets_asks_both_networks(double, error):
    """θ says the second action, which θ⁻ values at 2; its own best is worth 10."""
    np.testing.assert_allclose(one_update([1, 5], [10, 2], double=double)[1]["td_error"], error)


@pytest.mark.parametrize(("limit", "loss"), [(100.0, 0.5 * 6**2), (1.0, 6 - 0.5), (4.0, 4 * (6 - 2))])
def test_the_loss_of_an_update_is_hubers(limit, loss):
    """δ = 1 + 0.5 x 10 - 0 = 6."""
    np.testing.assert_allclose(one_update([0, 0], [10, 10], huber=limit)[1]["loss"], loss)


@pytest.mark.parametrize(("limit", "norm"), [(1000.0, 6.0), (0.5, 0.5)])
def test_the_gradient_of_an_update_is_clipped(limit, norm):
    """Where weights are 0 only the bias of action 0 has a gradient, -δ. Adam's first moment is a tenth of it."""
    state, metrics = one_update([0, 0], [10, 10], max_grad_norm=limit)
    np.testing.assert_allclose(metrics["gradient_norm"], 6.0)  # before it is clipped
    moment = next(x for x in jax.tree.leaves(state.optimiser) if x.ndim == 1)
    np.testing.assert_allclose(np.linalg.norm(moment), 0.1 * norm, rtol=1e-5)


def test_learning_is_towards_the_target_network():
    """δ = r + γ Q(s'; θ⁻) - Q(s, a; θ) = 1 + 0.5 x 10 - 0."""
    np.testing.assert_allclose(update_towards(10.0), 6.0)
