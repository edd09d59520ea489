"""What a loaded agent says of what it sees, beside what it does."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import small_runs as small

import thorndike as td
from thorndike.ops.distributions import TanhNormal

OBS = np.array([[0.01, 0.2, -0.03, 0.1], [0.1, -1.0, 0.05, 1.5]], np.float32)


def test_probabilities_are_those_of_sampled_actions(runs, tmp_path):
    agent = td.load(runs("PPO").agent().save(tmp_path / "agent.td"))
    p = agent.probabilities(OBS)
    drawn = np.stack([agent.act(OBS, explore=True) for _ in range(400)])
    for i in range(2):
        counts = np.bincount(drawn[:, i], minlength=2)
        expected = np.float64(p[i]) / np.float64(p[i]).sum()
        assert scipy.stats.chisquare(counts, 400 * expected).pvalue > 1e-3
    np.testing.assert_allclose(agent.probabilities(OBS[0]), p[0], rtol=1e-5)
    assert agent.look(OBS)["entropy"] == pytest.approx(scipy.stats.entropy(p, axis=1), rel=1e-4)
    assert agent.values(OBS).shape == (2,)


def test_values_of_actions(runs, tmp_path):
    agent = td.load(runs("DQN").agent().save(tmp_path / "agent.td"))
    found = agent.look(OBS)
    assert found["q"].shape == (2, 2)
    np.testing.assert_array_equal(agent.values(OBS), found["q"])
    np.testing.assert_allclose(found["value"], found["q"].max(1))
    np.testing.assert_array_equal(found["probabilities"], np.eye(2)[found["q"].argmax(1)])
    np.testing.assert_array_equal(agent.act(OBS), found["q"].argmax(1))
    assert (agent.probabilities(OBS) > 0).all()  # exploring


def test_continuous_actions(runs, tmp_path):
    agent = td.load(runs("SAC").agent().save(tmp_path / "agent.td"))
    obs = np.array([0.5, 0.5, 1.0], np.float32)
    found = agent.look(obs)
    assert set(found) == {"value", "mean", "std"}
    np.testing.assert_allclose(agent.act(obs), 2 * np.tanh(found["mean"]), rtol=1e-5)
    with pytest.raises(td.IncompatibleError, match="continuous actions have no probabilities"):
        agent.probabilities(obs)
    with pytest.raises(td.IncompatibleError, match="expected an observation"):
        agent.look(np.zeros(2))


def test_looking_leaves_the_memory_as_it_is(tmp_path):
    algorithm = td.PPO(num_envs=2, rollout_length=8, minibatch_size=8, torso=small.TORSO, core=td.GRU(width=4))
    agent = small.train("PPO", tmp_path / "run", algorithm=algorithm, steps=64).agent()
    other = td.load(agent.save(tmp_path / "agent.td"))
    for obs in (*OBS, *OBS):
        other.look(obs)
        np.testing.assert_array_equal(agent.act(obs), other.act(obs))
        np.testing.assert_array_equal(agent.values(obs), other.values(obs))


def test_densities_of_squashed_gaussians():
    """Against the change of variables from SciPy's normal, and what `sample_and_log_prob` says of its own samples."""
    import jax
    import jax.numpy as jnp

    pi = TanhNormal(jnp.array([[0.3, -0.5]]), jnp.array([[-0.2, 0.4]]))
    action, expected = pi.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_allclose(pi.log_prob(action), expected, rtol=1e-3)
    u = np.arctanh(np.float64(action))
    by_hand = scipy.stats.norm.logpdf(u, pi.mean, np.exp(pi.log_std)) - np.log(1 - np.float64(action) ** 2)
    np.testing.assert_allclose(pi.log_prob(action), by_hand.sum(-1), rtol=1e-3)
    assert np.isfinite(pi.log_prob(jnp.array([[1.0, -1.0]]))).all()
