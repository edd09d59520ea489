"""Discrete SAC in closed form: soft values, a bandit's Boltzmann policy, masks, and the trap of its target entropy."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.algorithms.actor_critic import discrete_sac
from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.ops.distributions import Categorical
from thorndike.types import Transition

SPEC = td.Spec(Box(-1, 1, (3,)), Discrete(3), 1000)
SMALL = td.DiscreteSAC(torso=td.Torso(widths=(8,)), discount=0.9, tau=0.1, learning_rate=1e-2)
B = 6
RNG = np.random.default_rng(0)
Q = jnp.asarray(RNG.normal(size=(2, B, 3)), jnp.float32)
LOGITS = jnp.asarray(RNG.normal(size=(B, 3)), jnp.float32)


def batch(**info):
    obs, after = (jnp.asarray(RNG.normal(size=(B, 3)), jnp.float32) for _ in range(2))
    reward, terminated = jnp.asarray(RNG.normal(size=B), jnp.float32), jnp.arange(B) % 2 == 1
    return Transition(obs, (), jnp.arange(B) % 3, {}, reward, terminated, (), after, info)


class Says:
    """A policy of our choice."""

    def __call__(self, obs, mask=None):
        return Categorical(LOGITS if mask is None else jnp.where(mask, LOGITS, -1e9))


class Judges(eqx.Module):
    """Critics of our choice."""

    values: jax.Array  # [N, B, A]

    def __call__(self, obs):
        return self.values


def soft_value(alpha, legal=(0, 1, 2)):
    """Σ_a π(a) (min_i Q_i(a) - α log π(a)), by SciPy."""
    legal = list(legal)
    pi = scipy.special.softmax(np.asarray(LOGITS)[:, legal], -1)
    return (pi * (np.minimum(*np.asarray(Q))[:, legal] - alpha * np.log(pi))).sum(-1)


@pytest.mark.parametrize("alpha", [0.5, 0.0])
@pytest.mark.parametrize("legal", [(0, 1, 2), (0, 2)])
def test_the_target_is_the_expectation_over_legal_actions(alpha, legal):
    mask = jnp.isin(jnp.arange(3), jnp.asarray(legal)) & jnp.ones((B, 1), bool)
    data = batch(**({} if len(legal) == 3 else {"next_mask": mask}))
    state = SMALL.init(jax.random.key(0), SPEC)._replace(policy=Says(), targets=Judges(Q))
    found = dataclasses.replace(SMALL, temperature=alpha).target(state, data)
    expected = data.reward + 0.9 * (1 - data.terminated) * soft_value(alpha, legal)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_actor_goes_up_the_soft_value():
    loss, entropy = SMALL.actor_loss(Says(), Judges(Q), 0.5, batch())
    np.testing.assert_allclose(loss, -soft_value(0.5).mean(), rtol=1e-4)
    np.testing.assert_allclose(
        entropy, scipy.stats.entropy(scipy.special.softmax(LOGITS, -1), axis=-1).mean(), rtol=1e-4
    )


def test_the_critics_are_fitted_to_the_target_where_it_acted():
    data, y = batch(), jnp.arange(6) / 10
    loss, metrics = SMALL.critic_loss(Judges(Q), data, y)
    taken = np.asarray(Q)[:, np.arange(B), np.asarray(data.action)]
    np.testing.assert_allclose(loss, 0.5 * ((taken - np.asarray(y)) ** 2).mean(1).sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["td_error"], np.abs(taken - np.asarray(y)).mean(0), rtol=1e-5)


ARMS = jnp.asarray([1.0, 0.0, -1.0])


def bandit(algorithm, steps=1500):
    """The policy and the soft value of a bandit with three arms, after so many updates from uniform draws."""

    def step(state, key):
        action = jax.random.randint(key, (32,), 0, 3)
        obs, yes = jnp.zeros((32, 3)), jnp.ones(32, bool)
        data = Transition(obs, (), action, {}, ARMS[action], yes, (), obs, {})
        return algorithm.update(state, data, key)[0], None

    start = algorithm.init(jax.random.key(0), SPEC)
    state, _ = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys))(
        start, jax.random.split(jax.random.key(1), steps)
    )
    pi = state.policy(jnp.zeros((1, 3)))
    q = discrete_sac.least(discrete_sac.values(state.critics, jnp.zeros((1, 3))))
    alpha = algorithm.alpha(state)
    return np.exp(pi.log_probs[0]), float(-discrete_sac.objective(pi, q, alpha)[0]), float(alpha)


BANDIT = dataclasses.replace(SMALL, temperature=0.5)


def test_a_bandit_is_played_by_boltzmanns_law():
    """π = softmax(r / α), V = α log Σ exp(r / α)."""
    pi, value, _ = bandit(BANDIT)
    np.testing.assert_allclose(pi, [0.867, 0.117, 0.016], atol=0.02)
    np.testing.assert_allclose(value, 0.5 * scipy.special.logsumexp(np.asarray(ARMS) / 0.5), atol=0.03)


def greedily(pi, q, alpha):
    """The sum without the entropy."""
    return -(jnp.exp(pi.log_probs) * q).sum(-1)


def halved(pi, q, alpha):
    """Half of the entropy."""
    return (jnp.exp(pi.log_probs) * (alpha / 2 * pi.log_probs - q)).sum(-1)


@pytest.mark.parametrize("bug", [greedily, halved])
def test_bugs_play_it_otherwise(bug, monkeypatch):
    monkeypatch.setattr(discrete_sac, "objective", bug)
    pi, _, _ = bandit(BANDIT)
    assert np.abs(pi - np.array([0.867, 0.117, 0.016])).max() > 0.05


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_learned_temperature_holds_the_entropy(share):
    algorithm = dataclasses.replace(SMALL, target_entropy=share)
    pi, _, _ = bandit(algorithm, 4000)
    assert -(pi * np.log(pi)).sum() == pytest.approx(share * np.log(3), abs=0.05)


def test_targets_of_entropy_are_shares_of_what_is_legal():
    mask = jnp.asarray([[True, True, False]] * 3 + [[True, True, True]] * 3)
    np.testing.assert_allclose(SMALL.goal(batch(mask=mask), 3), 0.5 * (np.log(2) + np.log(3)) / 2, rtol=1e-5)
    np.testing.assert_allclose(SMALL.goal(batch(), 3), 0.5 * np.log(3), rtol=1e-5)
    with pytest.raises(ConfigError, match=r"\[0, 1\]"):
        check(td.DiscreteSAC(target_entropy=1.2))


def test_an_illegal_action_is_not_played_and_gives_no_nan():
    state = SMALL.init(jax.random.key(0), SPEC)
    mask = jnp.asarray([[True, False, True]] * B)
    no = jnp.zeros(B, bool)
    now = td.Timestep(jnp.ones((B, 3)), jnp.zeros(B), no, no, jnp.ones((B, 3)), no, {"mask": mask})
    for key in range(20):
        action, _, _ = SMALL.act(SMALL.actor(state), (), now, jax.random.key(key), True)
        assert (action != 1).all()
    data = batch(mask=mask, next_mask=mask)._replace(action=jnp.zeros(B, int))
    after, metrics = jax.jit(SMALL.update)(state, data, jax.random.key(0))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((after, metrics)))


def test_other_spaces_are_refused():
    assert "needs Discrete" in SMALL.supports(td.Spec(SPEC.observation, Box(-1, 1, (1,)), 10))
