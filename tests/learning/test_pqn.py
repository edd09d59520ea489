"""PQN on CartPole, and what layer normalisation is for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trained import greedy, trained

import thorndike as td
from thorndike.algorithms.value import pqn


@pytest.mark.slow
def test_cartpole(tmp_path):
    """Gallici et al. (2024) and CleanRL: 495 after 500,000 steps."""
    run = trained(tmp_path, td.preset("pqn", "CartPole-v1"), "CartPole-v1", 300_000, seeds=4)
    assert (greedy(run) >= 475).all(), greedy(run)


@pytest.mark.slow
def test_targets_of_the_next_episode_do_not_learn(tmp_path, monkeypatch):
    """Bootstrapping over an episode's end, a pole that has fallen is worth as much as one that stands."""
    returns = pqn.lambda_returns
    endless = lambda r, v, terminated, ended, *more: returns(r, v, terminated & False, ended & False, *more)  # noqa: E731
    monkeypatch.setattr(pqn, "lambda_returns", endless)
    run = trained(tmp_path, td.preset("pqn", "CartPole-v1"), "CartPole-v1", 100_000, seeds=2)
    assert (greedy(run) < 300).all(), greedy(run)


@pytest.mark.parametrize(("norm", "most"), [("layer", 1e-2), ("none", np.inf)])
def test_the_scale_of_inputs_is_normalised_away(norm, most):
    """Features of x and of 1000 x agree with layer normalisation, and without it do not."""
    space = td.CartPole().observation_space
    network = td.Torso(widths=(16,), activation="relu", norm=norm).build(jax.random.key(0), space)
    x = jax.random.normal(jax.random.key(1), (8, 4))
    apart = float(jnp.abs(network(x) - network(1000 * x)).max())
    assert apart < most
    assert (apart > 1) == (norm == "none")


def test_it_learns_towards_the_targets():
    """One rollout whose every step earns 1 and ends: Q(s, a) moves towards 1 for the actions taken, whatever V is."""
    algorithm = td.PQN(num_envs=4, rollout_length=8, minibatch_size=8, learning_rate=1e-2, epochs=40)
    env = td.CartPole()
    state = algorithm.init(jax.random.key(0), td.Spec(env.observation_space, env.action_space, 100))
    rng = np.random.default_rng(0)
    obs, after = np.float32(rng.normal(size=(2, 8, 4, 4)))
    yes = np.ones((8, 4), bool)
    steps = td.Transition(obs, yes, rng.integers(0, 2, (8, 4)), {}, np.float32(yes), yes, ~yes, 100 * after, {})
    state, metrics = algorithm.learn(state, td.Rollout(jax.tree.map(jnp.asarray, steps), (), ()), jax.random.key(1))
    values = pqn.values_of(state.q, obs)
    chosen = np.take_along_axis(np.asarray(values), steps.action[..., None], -1)
    np.testing.assert_allclose(chosen, 1.0, atol=0.15)
    assert np.isfinite(metrics["gradient_norm"])
