"""Auxiliary losses against their closed forms; their gradients reach the torso and nothing else of the agent."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from scipy.special import log_softmax

import thorndike as td
from thorndike.configuration import check
from thorndike.envs.mixed import Mixed
from thorndike.nets import auxiliary
from thorndike.nets.auxiliary import Told

B, D, F = 24, 5, 4
SPEC = td.Spec(Box(-np.inf, np.inf, (D,)), Discrete(3), 1000)
RNG = np.random.default_rng(0)
LOSSES = {"reward": td.RewardPrediction(weight=3.0), "self": td.SelfPrediction(weight=3.0)}


def told(rewards):
    obs, after = (jnp.asarray(RNG.normal(size=(B, D)), jnp.float32) for _ in range(2))
    return Told(obs, jnp.asarray(RNG.integers(0, 3, B)), jnp.asarray(rewards, jnp.float32), after)


MIXED = np.where(np.arange(B) < 5, np.resize([2.0, -0.5], B), 0.0)  # three of 2, two of -0.5, and zeros
WEIGHT = jnp.asarray(RNG.normal(size=(D, F)), jnp.float32)


def layers_of(loss):
    return loss.build(jax.random.key(1), F, SPEC)


def said_by_hand(layers, steps):
    """What the layers say of the features tanh(obs W) and the actions, in NumPy."""
    x = np.concatenate([np.tanh(np.asarray(steps.obs) @ np.asarray(WEIGHT)), np.eye(3)[np.asarray(steps.action)]], -1)
    dense = lambda x, layer: x @ np.asarray(layer.weight) + np.asarray(layer.bias)  # noqa: E731
    return dense(np.maximum(dense(x, layers.hidden), 0), layers.last)


def torso(obs):
    return jnp.tanh(obs @ WEIGHT)


def check_reward(rewards):
    loss, steps = LOSSES["reward"], told(rewards)
    layers = layers_of(loss)
    surprise = -log_softmax(said_by_hand(layers, steps), -1)[np.arange(B), 1 + np.sign(rewards).astype(int)]
    kinds = [surprise[kind] for kind in (rewards == 0, rewards != 0) if kind.any()]
    expected = np.mean([kind.mean() for kind in kinds])  # as if both were drawn equally often
    got, metrics = loss.loss(layers, torso, steps)
    np.testing.assert_allclose(got, 3 * expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["auxiliary_loss"], expected, rtol=1e-5)


def check_self():
    loss, steps = LOSSES["self"], told(MIXED)
    layers = layers_of(loss)
    a, b = said_by_hand(layers, steps), np.tanh(np.asarray(steps.next_obs) @ np.asarray(WEIGHT))
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(loss.loss(layers, torso, steps)[0], 3 * (1 - cosine).mean(), rtol=1e-5)


@pytest.mark.parametrize("rewards", [MIXED, np.zeros(B), np.full(B, -7.0)], ids=["mixed", "nothing", "all"])
def test_reward_prediction(rewards):
    check_reward(rewards)


def test_self_prediction():
    check_self()
    for of, expected in ((jnp.eye(3), 0.0), (-jnp.eye(3), 2.0), (5 * jnp.eye(3), 0.0)):  # the same, opposite, longer
        steps = Told(jnp.eye(3), jnp.zeros(3, int), jnp.zeros(3), jnp.eye(3))
        got, _ = td.SelfPrediction().loss(lambda x, action, of=of: x @ of, lambda x: x, steps)
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("mutant", ["no balance", "swapped kinds"])
def test_other_weights_are_noticed(mutant, monkeypatch):
    right = auxiliary.balance
    wrong = {"no balance": lambda rare: jnp.ones(rare.shape), "swapped kinds": lambda rare: right(~rare)[::-1]}
    monkeypatch.setattr(auxiliary, "balance", wrong[mutant])
    with pytest.raises(AssertionError):
        check_reward(MIXED)


def test_features_that_are_not_of_length_1_are_noticed(monkeypatch):
    monkeypatch.setattr(auxiliary, "unit", lambda x: x)
    with pytest.raises(AssertionError):
        check_self()


def check_target():
    """The gradient is that of the same loss where φ(s') are numbers that stand still."""
    loss, steps = LOSSES["self"], told(MIXED)
    layers = layers_of(loss)
    found = jax.grad(lambda w: loss.loss(layers, lambda x: jnp.tanh(x @ w), steps)[0])(WEIGHT)
    still = jnp.tanh(steps.next_obs @ WEIGHT)

    def value(w):
        return loss.loss(layers, lambda x: still if x is steps.next_obs else jnp.tanh(x @ w), steps)[0]

    np.testing.assert_allclose(found, jax.grad(value)(WEIGHT), rtol=1e-4, atol=1e-6)


def test_no_gradient_goes_to_the_features_at_the_next_step(monkeypatch):
    check_target()
    lax = SimpleNamespace(**{**vars(jax.lax), "stop_gradient": lambda x: x})
    monkeypatch.setattr(auxiliary, "jax", SimpleNamespace(**{**vars(jax), "lax": lax}))
    with pytest.raises(AssertionError):
        check_target()


PLAIN = {"optimiser": td.SGD(), "learning_rate": 1.0, "normalize_observation": False, "max_grad_norm": 1e9}
SMALL = td.Torso(widths=(6,))


def batch(shape):
    rng = np.random.default_rng(1)
    obs, after = (jnp.asarray(rng.normal(size=(*shape, D)), jnp.float32) for _ in range(2))
    no, reward = jnp.zeros(shape, bool), jnp.asarray(rng.integers(-1, 2, shape), jnp.float32)
    extras = {"log_prob": jnp.full(shape, -1.0)}
    return td.Transition(obs, no, jnp.asarray(rng.integers(0, 3, shape)), extras, reward, no, no, after, {})


def learned_dqn(loss):
    algorithm = td.DQN(torso=SMALL, auxiliary=loss, **PLAIN)
    state = algorithm.init(jax.random.key(0), SPEC)
    after = jax.jit(algorithm.update)(state, batch((16,)), jax.random.key(0))[0]
    return state.auxiliary, after.q.torso, after.q.head, after.auxiliary


def learned_ppo(loss):
    algorithm = td.PPO(
        torso=SMALL, shared_torso=True, auxiliary=loss, num_envs=4, rollout_length=8, minibatch_size=32, epochs=1,
        normalize_reward=False, **PLAIN,
    )  # fmt: skip
    state, steps = algorithm.init(jax.random.key(0), SPEC), batch((8, 4))
    no = jnp.zeros(4, bool)
    last = td.Timestep(steps.next_obs[-1], None, None, None, None, no, {})
    carry = algorithm.carry(algorithm.actor(state), 4)
    after = jax.jit(algorithm.learn)(state, td.Rollout(steps, carry, last), jax.random.key(0))[0]
    heads = (after.params.policy.head, after.params.critic.head)
    return state.auxiliary, after.params.policy.torso, heads, after.auxiliary


def apart(a, b):
    return max(np.abs(np.subtract(x, y)).max() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def check_reach(learned, loss):
    """One step of gradient descent with the loss and without: the torso moves, the heads are the same."""
    before, torso, heads, layers = learned(loss)
    _, plain_torso, plain_heads, nothing = learned(None)
    assert nothing == ()
    assert apart(torso, plain_torso) > 1e-3
    assert apart(heads, plain_heads) < 1e-6
    assert apart(layers, before) > 1e-3


@pytest.mark.parametrize("learned", [learned_dqn, learned_ppo])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_reach_the_torso_and_not_the_heads(learned, loss):
    check_reach(learned, LOSSES[loss])


def test_a_torso_that_is_not_reached_is_noticed(monkeypatch):
    right = td.RewardPrediction.loss
    blind = lambda self, layers, torso, steps: right(self, layers, lambda x: jax.lax.stop_gradient(torso(x)), steps)  # noqa: E731
    monkeypatch.setattr(td.RewardPrediction, "loss", blind)
    with pytest.raises(AssertionError):
        check_reach(learned_dqn, LOSSES["reward"])


def test_with_memory_it_is_the_torso_below_that_learns():
    """A GRU behind the torso: PPO's loss is that of the torso's own features, and its layers have their width."""
    algorithm = td.PPO(
        torso=SMALL, core=td.GRU(width=9), shared_torso=True, auxiliary=td.SelfPrediction(), num_envs=4,
        rollout_length=8, minibatch_size=32, epochs=1,
    )  # fmt: skip
    state = algorithm.init(jax.random.key(0), SPEC)
    assert state.auxiliary.last.weight.shape == (6, 6)
    steps = batch((8, 4))
    carry = algorithm.carry(algorithm.actor(state), 4)
    last = td.Timestep(steps.next_obs[-1], None, None, None, None, jnp.zeros(4, bool), {})
    _, metrics = jax.jit(algorithm.learn)(state, td.Rollout(steps, carry, last), jax.random.key(0))
    told = Told(steps.obs, steps.action, steps.reward, steps.next_obs)
    expected, _ = td.SelfPrediction().loss(state.auxiliary, state.params.policy.torso.torso, told)
    np.testing.assert_allclose(metrics["auxiliary_loss"], expected, rtol=1e-4)


def test_what_does_not_fit_is_said():
    with pytest.raises(td.ConfigError, match=r"n_step 1"):
        check(td.DQN(auxiliary=td.RewardPrediction(), replay=td.Uniform(n_step=3)))
    with pytest.raises(td.ConfigError, match="shared_torso=True"):
        check(td.PPO(auxiliary=td.SelfPrediction()))
    space = Mixed(Dict({"a": Discrete(2), "b": Box(-1, 1, (1,))}))
    told = td.PPO(shared_torso=True, auxiliary=td.SelfPrediction()).supports(td.Spec(SPEC.observation, space, 1000))
    assert "read actions of" in told
