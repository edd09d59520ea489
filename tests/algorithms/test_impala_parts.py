"""IMPALA: who acts, how old they are, and what it becomes where they are not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from test_a2c_parts import SHARED, SPECS, E, T, rollout

import thorndike as td
from thorndike.algorithms.policy import impala

FIELDS = {**SHARED, "entropy_coefficient": 0.1}


def test_on_policy_it_is_a2c():
    """Without a lag, ratios are 1 and V-trace's targets those of n steps."""
    spec, states = SPECS["CartPole"], []
    for algorithm in (td.A2C(**FIELDS), td.IMPALA(**FIELDS)):
        state = algorithm.init(jax.random.key(0), spec)
        for seed in range(3):
            data = rollout(algorithm, state, spec, seed)
            version = np.full((T, E), seed, np.int32)
            data = data._replace(steps=data.steps._replace(extras={**data.steps.extras, "version": version}))
            state, _ = jax.jit(algorithm.learn)(state, data, jax.random.key(seed))
        states.append(state.params)
    for a, b in zip(*map(jax.tree.leaves, states)):
        np.testing.assert_allclose(a, b, atol=2e-6)


def late_losses():
    """The losses of the policy and of the critic where another policy acted, and as rlax has them; no episode ends."""
    algorithm, spec = td.IMPALA(**FIELDS, normalize_observation=False, normalize_reward=False), SPECS["CartPole"]
    state = algorithm.init(jax.random.key(0), spec)
    data, no = rollout(algorithm, state, spec), jnp.zeros((T, E), bool)
    obs, log_prob = data.steps.obs, data.steps.extras["log_prob"]
    acted = log_prob + jnp.asarray(np.random.default_rng(1).normal(size=(T, E)), jnp.float32)
    after = jnp.concatenate([obs[1:], data.last.obs[None]])
    extras = {"log_prob": acted, "version": jnp.zeros((T, E), jnp.int32)}
    steps = data.steps._replace(terminated=no, truncated=no, first=no, next_obs=after, extras=extras)
    _, metrics = algorithm.loss(state.params, state, data._replace(steps=steps), steps.reward)
    value = lambda x: state.params.ahead(x, algorithm.carry(None, E))  # noqa: E731
    expected = jax.vmap(rlax.vtrace_td_error_and_advantage, 1, 1)(
        value(obs), value(after), steps.reward, jnp.full((T, E), 0.9), jnp.exp(log_prob - acted)
    )
    right = -(log_prob * expected.pg_advantage).mean(), (expected.errors**2).mean()
    return np.float32([metrics["policy_gradient_loss"], metrics["value_loss"]]), np.float32(right)


def test_what_another_policy_did_is_corrected_for():
    np.testing.assert_allclose(*late_losses(), rtol=1e-4)


@pytest.mark.parametrize("bug", ["ratios upside down", "no ratios"])
def test_bugs_correct_wrongly(bug, monkeypatch):
    vtrace, sign = impala.vtrace, -1.0 if bug == "ratios upside down" else 0.0
    monkeypatch.setattr(impala, "vtrace", lambda log_ratio, *rest: vtrace(sign * log_ratio, *rest))
    found, right = late_losses()
    assert np.abs(found - right).max() > 0.05


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_who_acts_is_so_many_updates_old(lag):
    """The parameters are those of that version, to the bit, and the metrics say how old they were."""
    algorithm, spec = td.IMPALA(**FIELDS, lag=lag), SPECS["CartPole"]
    state = algorithm.init(jax.random.key(0), spec)
    history = []
    for i in range(6):
        history.append(state.params)
        actor = algorithm.actor(state)
        version = max(0, i - lag)
        assert int(actor.version) == version
        jax.tree.map(np.testing.assert_array_equal, (actor.policy, actor.critic), tuple(history[version]))
        data = rollout(algorithm, state._replace(params=history[version]), spec, i)
        seen = np.full((T, E), int(actor.version), np.int32)
        data = data._replace(steps=data.steps._replace(extras={**data.steps.extras, "version": seen}))
        state, metrics = jax.jit(algorithm.learn)(state, data, jax.random.key(i))
        assert float(metrics["staleness"]) == float(metrics["staleness_max"]) == i - version
        assert ("drift" in metrics) == (lag > 0)


def test_what_came_from_elsewhere_acts_at_once():
    algorithm = td.IMPALA(**FIELDS, lag=2)
    state = algorithm.init(jax.random.key(0), SPECS["CartPole"])
    other = algorithm.init(jax.random.key(1), SPECS["CartPole"])
    adopted = algorithm.adopted(state._replace(params=other.params))
    jax.tree.map(np.testing.assert_array_equal, algorithm.actor(adopted).policy, other.params.policy)


def test_refusals():
    with pytest.raises(td.ConfigError, match="lag must lie between"):
        td.IMPALA(lag=-1).check()
