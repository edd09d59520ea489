"""CrossQ's normalisation against NumPy, its joint pass, and the bugs that a weaker check would miss."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.algorithms.actor_critic import crossq
from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.nets.batch_norm import BatchRenorm, Moments, NormalisedMLP, Training
from thorndike.types import Transition

ENV = td.Pendulum()
SPEC = td.Spec(ENV.observation_space, ENV.action_space, 1000)
NET = td.Torso(widths=(8,), activation="relu", init="uniform")
SMALL = td.CrossQ(torso=NET, critic_torso=NET, delay=1, momentum=0.9, learning_rate=1e-2, discount=0.9, temperature=0.5)
B = 12
RNG = np.random.default_rng(0)


def batch():
    """s and s' have other means, as where a policy moves."""
    obs, action = (jnp.asarray(RNG.normal(size=(B, k)), jnp.float32) for k in (3, 1))
    after = jnp.asarray(2 + 3 * RNG.normal(size=(B, 3)), jnp.float32)
    reward, terminated = jnp.asarray(RNG.normal(size=B), jnp.float32), jnp.arange(B) % 3 == 1
    return Transition(obs, (), action, {}, reward, terminated, (), after, {})


DATA, X = batch(), RNG.normal(2.0, 3.0, size=(50, 4)).astype(np.float32)
RUNNING = Moments(jnp.asarray([1.0, 2.0, -30.0, 2.0]), jnp.asarray([4.0, 9.0, 1.0, 0.1]))


def layer():
    affine = jnp.asarray([1.0, 2, 3, 4]), jnp.asarray([0.0, 1, 2, 3])
    return eqx.tree_at(lambda norm: (norm.scale, norm.bias), BatchRenorm(4), affine)


def test_batch_normalisation_is_numpys():
    y, after = layer()(jnp.asarray(X), RUNNING, Training(0.9, False))
    expected = (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3) * [1, 2, 3, 4] + [0, 1, 2, 3]
    np.testing.assert_allclose(y, expected, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(after.mean, 0.9 * RUNNING.mean + 0.1 * X.mean(0), rtol=1e-4)
    np.testing.assert_allclose(after.var, 0.9 * RUNNING.var + 0.1 * X.var(0), rtol=1e-4)


def test_renormalisation_is_numpys():
    """Where nothing is clipped it is by the running statistics; the third mean and the fourth deviation are too far."""
    y, _ = layer()(jnp.asarray(X), RUNNING, Training(0.9, True))
    std, usual = np.sqrt(X.var(0) + 1e-3), np.sqrt(np.asarray(RUNNING.var) + 1e-3)
    r = np.clip(std / usual, 1 / 3, 3)
    d = np.clip((X.mean(0) - RUNNING.mean) / usual, -5, 5)
    assert (r[3], d[2]) == (3, 5)
    np.testing.assert_allclose(y, ((X - X.mean(0)) / std * r + d) * [1, 2, 3, 4] + [0, 1, 2, 3], rtol=2e-4, atol=1e-3)
    evaluated, same = layer()(jnp.asarray(X), RUNNING, None)
    np.testing.assert_allclose(y[:, :2], evaluated[:, :2], rtol=1e-3, atol=1e-3)
    assert same is RUNNING


def test_the_correction_has_no_gradient():
    """Of the sum over a batch: 0 with respect to a shift of all of it, as without the correction."""

    def slope(training):
        return jax.grad(lambda shift: layer()(X + shift, RUNNING, training)[0].sum())(0.0)

    assert max(abs(slope(Training(0.9, renorm))) for renorm in (False, True)) < 1e-3
    assert abs(slope(None)) > 100


def test_a_network_normalises_its_input_and_every_activation():
    net = NormalisedMLP(jax.random.key(0), (4, 6, 5), "relu")
    y, after = net(jnp.asarray(X), net.blank(), Training(0.5, False))
    x = X
    for i, norm in enumerate(net.norms):
        np.testing.assert_allclose(after[i].mean, 0.5 * x.mean(0), rtol=1e-3, atol=1e-4)
        x = np.asarray((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) * norm.scale + norm.bias)
        x = np.maximum(x @ net.layers[i].weight + net.layers[i].bias, 0) if i < 2 else x
    np.testing.assert_allclose(y, x, rtol=1e-3, atol=1e-3)


def parts(algorithm=SMALL):
    state = algorithm.init(jax.random.key(0), SPEC)
    pi, _ = crossq.distribution(state.policy, DATA.next_obs, state.running.policy)
    return state, *pi.sample_and_log_prob(jax.random.key(1))


def expected_loss():
    """Of critics that are evaluated one by one, by NumPy, on all rows of both halves."""
    state, next_action, log_prob = parts()
    rows = np.concatenate(
        [
            np.concatenate([DATA.obs, DATA.next_obs]),
            np.concatenate([state.policy.actions.from_environment(DATA.action), next_action]),
        ],
        1,
    )
    q = []
    for i in range(2):
        critic = jax.tree.map(lambda x, i=i: np.asarray(x[i]), state.critics)
        x = rows
        for j, norm in enumerate(critic.mlp.norms):
            x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) * norm.scale + norm.bias
            x = np.maximum(x @ critic.mlp.layers[j].weight + critic.mlp.layers[j].bias, 0) if j < 1 else x
        q.append((x @ critic.head.weight + critic.head.bias)[:, 0])
    q = np.array(q)
    y = DATA.reward + 0.9 * (1 - DATA.terminated) * (q[:, B:].min(0) - 0.5 * log_prob)
    return float(0.5 * ((q[:, :B] - np.asarray(y)) ** 2).mean(1).sum())


def loss(algorithm=SMALL):
    state, next_action, log_prob = parts(algorithm)
    return float(algorithm.critic_loss(state.critics, state, DATA, next_action, log_prob)[0])


def test_both_halves_are_one_batch():
    np.testing.assert_allclose(loss(), expected_loss(), rtol=1e-3)


@pytest.mark.parametrize("bug", ["two passes", "running statistics"])
def test_other_statistics_miss_the_loss(bug, monkeypatch):
    right = crossq.values

    def values(critics, obs, action, moments, training=None):
        if bug == "running statistics":
            return right(critics, obs, action, moments)
        halves = [jax.tree.map(lambda x, half=half: jnp.split(x, 2)[half], (obs, action)) for half in range(2)]
        each = [right(critics, *half, moments, training) for half in halves]
        return jnp.concatenate([q for q, _ in each], 1), each[0][1]

    monkeypatch.setattr(crossq, "values", values)
    assert abs(loss() - expected_loss()) > 0.02 * expected_loss()


def test_no_gradient_goes_through_the_target():
    """The gradient is that with the target as a number; with one through it too it is another."""
    state, next_action, log_prob = parts()
    grad = jax.grad(lambda critics: SMALL.critic_loss(critics, state, DATA, next_action, log_prob)[0])(state.critics)
    training = SMALL.training(state)

    def by_hand(critics, stop):
        action = state.policy.actions.from_environment(DATA.action)
        obs, actions = jnp.concatenate([DATA.obs, DATA.next_obs]), jnp.concatenate([action, next_action])
        both, _ = crossq.values(critics, obs, actions, state.running.critics, training)
        q, after = both[:, :B], both[:, B:]
        y = DATA.reward + 0.9 * (1 - DATA.terminated) * (jnp.minimum(*after) - 0.5 * log_prob)
        return (0.5 * (q - (jax.lax.stop_gradient(y) if stop else y)) ** 2).mean(1).sum()

    right, wrong = (jax.grad(by_hand)(state.critics, stop).head.weight for stop in (True, False))
    np.testing.assert_allclose(grad.head.weight, right, rtol=1e-3, atol=1e-5)
    assert np.abs(grad.head.weight - wrong).max() > 1e-2


def test_running_statistics_move_with_the_pass_that_they_belong_to():
    """The critics' with the mixture, once an update; the policy's with s; and not with evaluation."""
    state = SMALL.init(jax.random.key(0), SPEC)
    after, _ = jax.jit(SMALL.update)(state, DATA, jax.random.key(0))
    mixture = np.concatenate([DATA.obs, DATA.next_obs]).mean(0)
    for critic in range(2):
        np.testing.assert_allclose(after.running.critics[0].mean[critic, :3], 0.1 * mixture, rtol=1e-3)
    np.testing.assert_allclose(after.running.policy[0].mean, 0.1 * DATA.obs.mean(0), rtol=1e-3, atol=1e-5)


def test_the_policy_and_its_statistics_are_delayed():
    algorithm = dataclasses.replace(SMALL, delay=2, temperature=None)
    state, update, seen = algorithm.init(jax.random.key(0), SPEC), jax.jit(algorithm.update), []
    for i in range(4):
        after, _ = update(state, DATA, jax.random.key(i))
        moved = [
            not np.array_equal(*(jax.tree.leaves(x)[0] for x in pair))
            for pair in zip(
                (state.critics, state.running.critics, state.policy, state.running.policy, state.log_temperature),
                (after.critics, after.running.critics, after.policy, after.running.policy, after.log_temperature),
            )
        ]
        assert moved[:2] == [True, True]
        assert len(set(moved[2:])) == 1
        seen.append(moved[2])
        state = after
    assert seen == [False, True, False, True]


def test_batches_are_corrected_after_the_warm_up_only():
    algorithm = dataclasses.replace(SMALL, renorm_after=2)
    state = algorithm.init(jax.random.key(0), SPEC)
    flags = [bool(algorithm.training(state._replace(updates=jnp.int32(n))).renorm) for n in range(4)]
    assert flags == [False, False, True, True]


def test_a_frozen_torso_is_frozen_with_its_dense_layers():
    """As everywhere: only the heads learn."""
    frozen = dataclasses.replace(NET, frozen=True)
    algorithm = dataclasses.replace(SMALL, torso=frozen, critic_torso=frozen)
    state = algorithm.init(jax.random.key(0), SPEC)
    after, _ = jax.jit(algorithm.update)(state, DATA, jax.random.key(0))
    for name in ("policy", "critics"):
        old, new = getattr(state, name), getattr(after, name)
        for a, b in zip(*map(jax.tree.leaves, (old.mlp, new.mlp)), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(old.head.weight, new.head.weight)


def test_bad_numbers_are_refused():
    layered, single = td.Torso(norm="layer"), td.Uniform(batch_size=1)
    torsos = [td.CrossQ(**{name: layered}) for name in ("torso", "critic_torso")]
    for bad in (*torsos, td.CrossQ(replay=single), td.CrossQ(delay=0)):
        with pytest.raises(ConfigError):
            check(bad)
