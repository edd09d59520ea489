"""Bootstrapped DQN: who is followed, what each member learns from, and what is never learned."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.types import Timestep

K, B = 4, 512
ENV = td.CartPole()
SPEC = td.Spec(ENV.observation_space, ENV.action_space, 1000)
SMALL = {"members": K, "torso": td.Torso(widths=(8,)), "num_envs": B}


def begun(**fields):
    algorithm = td.BootstrappedDQN(**{**SMALL, **fields})
    return algorithm, jax.jit(lambda key: algorithm.init(key, SPEC))(jax.random.key(0))


def batch(learns=None):
    rng = np.random.default_rng(0)
    obs, after = np.float32(rng.normal(size=(2, B, 4)))
    extras = {} if learns is None else {"learns": jnp.asarray(learns)}
    reward = np.float32(rng.normal(size=B))
    steps = (obs, (), rng.integers(0, 2, B), extras, reward, rng.random(B) < 0.2, (), after, {})
    return td.Transition(*jax.tree.map(jnp.asarray, steps))


def now(first):
    obs, no = jnp.ones((B, 4)), jnp.zeros(B, bool)
    return Timestep(obs, jnp.zeros(B), no, no, obs, jnp.asarray(first), {})


def apart(a, b):
    """By how much each member differs, [K]."""
    each = [jnp.abs(x - y).reshape(K, -1).max(1) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))]
    return np.asarray(jnp.stack(each).max(0))


def test_priors_are_never_learned_and_members_differ():
    algorithm, state = begun()
    after, _ = jax.jit(algorithm.update)(state, batch(), jax.random.key(0))
    assert (apart(state.prior, after.prior) == 0).all()
    assert (apart(state.q, after.q) > 0).all()
    weights = np.asarray(state.prior.torso.mlp.layers[0].weight)
    assert np.abs(weights[0] - weights[1]).max() > 0.1
    gradient = jax.grad(lambda prior: algorithm.loss(state.q, prior, batch(), jnp.ones((K, B)))[0])(state.prior)
    assert all(float(jnp.abs(x).max()) == 0 for x in jax.tree.leaves(gradient))


def test_a_member_learns_from_its_own_steps_alone():
    """Where its mask is false everywhere a member stays as it is: one mask for all would move it, or none."""
    algorithm, state = begun()
    learns = np.zeros((B, K), bool)
    learns[:, 1] = True
    after, _ = jax.jit(algorithm.update)(state, batch(learns), jax.random.key(0))
    np.testing.assert_array_equal(apart(state.q, after.q) > 0, [False, True, False, False])


def test_masks_are_drawn_for_each_member():
    algorithm, state = begun(share=0.3)
    actor = algorithm.actor(state)
    _, _, extras = algorithm.act(actor, algorithm.carry(actor, B), now(np.ones(B, bool)), jax.random.key(0), True)
    learns = np.asarray(extras["learns"], float)
    np.testing.assert_allclose(learns.mean(0), 0.3, atol=0.08)
    correlation = np.corrcoef(learns.T)[~np.eye(K, dtype=bool)]
    assert np.abs(correlation).max() < 0.2


def test_who_is_followed():
    """A member is drawn where an episode begins and followed until it ends; evaluation follows none."""
    algorithm, state = begun()
    actor = algorithm.actor(state)
    first = np.arange(B) < B // 2
    carry = jnp.full(B, 7 % K)
    action, after, _ = algorithm.act(actor, carry, now(first), jax.random.key(0), True)
    np.testing.assert_allclose(np.bincount(after[: B // 2], minlength=K) / (B // 2), 1 / K, atol=0.12)
    assert (np.asarray(after[B // 2 :]) == 3).all()
    values = np.asarray(algorithm.values(state.q, state.prior, jnp.ones((B, 4))))
    np.testing.assert_array_equal(action, values[np.asarray(after), np.arange(B)].argmax(-1))
    greedy, same, _ = algorithm.act(actor, carry, now(first), jax.random.key(0), False)
    np.testing.assert_array_equal(greedy, values.mean(0).argmax(-1))
    np.testing.assert_array_equal(same, carry)


def test_optimism_by_hand():
    algorithm, _ = begun(exploration=td.Optimism(bonus=2.0))
    values = jnp.array([[[1.0, 0.0]], [[1.0, 2.0]], [[1.0, 0.0]], [[1.0, 2.0]]])
    np.testing.assert_allclose(algorithm.bound(values), [[1.0, 1.0 + 2.0]])


def test_each_member_has_its_own_target():
    """TD errors against a NumPy loop over members; targets are not the members as they are now."""
    algorithm, state = begun(discount=0.9)
    state = state._replace(target=jax.tree.map(lambda x: x + 0.1, state.target))
    data = batch()
    _, metrics = algorithm.update(state, data, jax.random.key(0))
    here = np.asarray(algorithm.values(state.q, state.prior, data.obs))
    there = np.asarray(algorithm.values(state.target, state.prior, data.next_obs))
    expected = np.zeros(B)
    for k in range(K):
        target = np.asarray(data.reward) + 0.9 * ~np.asarray(data.terminated) * there[k].max(-1)
        expected += np.abs(target - here[k, np.arange(B), np.asarray(data.action)]) / K
    np.testing.assert_allclose(metrics["td_error"], expected, rtol=1e-4)


def test_an_ensemble_has_members():
    with pytest.raises(td.ConfigError, match="two members"):
        td.BootstrappedDQN(members=1).check()
