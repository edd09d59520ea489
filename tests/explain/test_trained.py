"""Attributions of what was learned: the one feature that pays, and nothing of it once the weights are random."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.explain import attribution as by
from thorndike.ops.keys import random_key

FEATURES, PAYS = 12, 7


@td.config
class Planted:
    """One choice: features are -1 or 1 at random, and only the sign of one of them says which action pays."""

    max_steps: int = 1

    @property
    def observation_space(self) -> Box:
        return Box(-1, 1, (FEATURES,), np.float32)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    def reset(self, key):
        obs = jnp.where(jax.random.bernoulli(key, shape=(FEATURES,)), 1.0, -1.0)
        return td.Step(obs, obs)

    def step(self, state, action, key):
        return td.Step(state, state, jnp.where((state[PAYS] > 0) == (action == 1), 1.0, 0.0), True)


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    algorithm = td.PPO(
        num_envs=64,
        rollout_length=32,
        minibatch_size=512,
        epochs=4,
        learning_rate=3e-3,
        torso=td.Torso(widths=(32, 32)),
    )
    run = td.train(algorithm, Planted(), 60_000, out=tmp_path_factory.mktemp("planted") / "run", progress=False)
    assert run.evaluate(200).mean == 1.0
    return run.agent()


OBS = np.where(np.random.default_rng(0).random((400, FEATURES)) < 0.5, 1.0, -1.0).astype(np.float32)


@pytest.mark.parametrize("method", ["integrated", "occlusion", "gradient", "shapley"])
def test_the_feature_that_pays_has_the_largest_share(agent, method):
    found = agent.explain(OBS[:100] if method == "shapley" else OBS, method=method)
    largest = np.abs(found.values).argmax(1)
    assert (largest == PAYS).mean() >= 0.95
    assert max(found.shares, key=found.shares.get) == str(PAYS)
    assert found.changes.argmax() == PAYS
    other = np.delete(found.changes, PAYS)
    assert other.max() < 0.05


def likeness(a, b):
    """The mean over moments of rank correlations between attributions' sizes, [N, F] each."""
    return np.mean([scipy.stats.spearmanr(x, y).statistic for x, y in zip(np.abs(a), np.abs(b))])


def likeness_to_random(agent, seeds):
    """Of the agent's gradients to those of networks with random weights."""
    trained, found = agent.explain(OBS, method="gradient").values, []
    for seed in seeds:
        fresh = agent.algorithm.actor(agent.algorithm.init(random_key(seed), agent.spec))
        random = td.Agent(agent.algorithm, agent.spec, agent.actor._replace(policy=fresh.policy))
        found.append(likeness(trained, random.explain(OBS, method="gradient").values))
    return np.mean(found)


def test_random_weights_explain_something_else(agent, monkeypatch):
    """Adebayo et al. 2018: what random weights leave alike is not the network's, such as the edges in the input."""
    assert abs(likeness_to_random(agent, range(1, 9))) < 0.3
    jax.clear_caches()
    monkeypatch.setattr(by, "gradient", lambda f, x: jnp.abs(x - jnp.roll(x, 1, 1)) + 0.01 * jnp.arange(FEATURES))
    assert likeness_to_random(agent, range(1, 3)) > 0.3
    monkeypatch.undo()
    jax.clear_caches()
