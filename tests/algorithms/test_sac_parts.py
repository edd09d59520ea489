"""SAC's targets and copies in closed form."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box

import thorndike as td
from thorndike.algorithms.actor_critic import sac
from thorndike.types import Transition

ENV = td.Pendulum()
SPEC = td.Spec(ENV.observation_space, ENV.action_space, 1000)
ACTION = np.zeros((6, 1))
KEY = jax.random.key(0)
SMALL = td.SAC(torso=td.Torso(widths=(8,)), tau=0.1, learning_rate=1e-2)


def batch():
    rng = np.random.default_rng(0)
    obs, after, action = (jnp.asarray(rng.normal(size=(6, n)), jnp.float32) for n in (3, 3, 1))
    reward, terminated = jnp.asarray(rng.normal(size=6), jnp.float32), jnp.asarray([False, True] * 3)
    return Transition(obs, (), action, {}, reward, terminated, (), after, {})


class Says:
    """A policy of our choice."""

    def __init__(self, *sample):
        self.sample = sample

    def __call__(self, obs):
        return self

    def sample_and_log_prob(self, key):
        return self.sample


class Judges(eqx.Module):
    """Critics of our choice."""

    values: jax.Array  # [N, B]

    def __call__(self, obs, action):
        return self.values


@pytest.mark.parametrize("temperature", [0.5, 0.0])
def test_the_target_is_the_papers(temperature):
    """y = r + γ (1 - terminated) (min_i Q_i(s', a'; θ⁻) - α log π(a' | s')): the entropy is in it, the ends are not."""
    q1, q2, log_prob = np.array([1, 2, 3, 4, 5, 6.0]), np.array([6, 5, 4, 3, 2, 1.0]), np.arange(6) / 10
    state = SMALL.init(jax.random.key(0), SPEC)
    online, targets = Judges(jnp.zeros((2, 6))), Judges(jnp.stack([q1, q2]))
    state = state._replace(policy=Says(ACTION, log_prob), targets=targets, critics=online)
    algorithm = td.SAC(discount=0.9, temperature=temperature)
    data = batch()
    expected = [
        float(r) if ended else float(r) + 0.9 * (min(a, b) - temperature * logp)
        for r, ended, a, b, logp in zip(data.reward, data.terminated, q1, q2, log_prob)
    ]
    np.testing.assert_allclose(algorithm.target(state, data, jax.random.key(0)), expected, rtol=1e-5)


def test_targets_follow_softly():
    """θ⁻ <- θ⁻ + τ (θ - θ⁻) after each update, from equal beginnings; the two critics differ from the start."""
    state = SMALL.init(jax.random.key(0), SPEC)
    for a, b in zip(*map(jax.tree.leaves, (state.critics, state.targets))):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(*state.critics.head.weight)
    for _ in range(2):
        after, _ = jax.jit(SMALL.update)(state, batch(), jax.random.key(1))
        leaves = map(jax.tree.leaves, (state.targets, after.critics, after.targets))
        for old, online, new in zip(*leaves):
            np.testing.assert_allclose(new, old + 0.1 * (online - old), rtol=1e-5, atol=1e-7)
            assert not np.array_equal(old, new)
        state = after


def test_the_actor_climbs_the_least_of_the_critics():
    """E[α log π(a | s) - min_i Q_i(s, a)]."""
    q1, q2, log_prob = np.array([1, 2, 3, 4, 5, 6.0]), np.array([6, 5, 4, 3, 2, 1.0]), np.arange(6) / 10
    policy, critics = Says(ACTION, log_prob), Judges(jnp.stack([q1, q2]))
    loss, entropy = SMALL.actor_loss(policy, critics, 0.5, batch(), jax.random.key(0))
    np.testing.assert_allclose(loss, np.mean(0.5 * log_prob - np.minimum(q1, q2)), rtol=1e-6)
    np.testing.assert_allclose(entropy, -log_prob.mean(), rtol=1e-6)


def test_the_critics_are_fitted_to_the_target():
    """Σ_i E[½ (Q_i(s, a) - y)²]."""
    q1, q2, y = np.array([1, 2, 3, 4, 5, 6.0]), np.array([6, 5, 4, 3, 2, 1.0]), np.arange(6) / 10
    loss, metrics = SMALL.critic_loss(Judges(jnp.stack([q1, q2])), batch(), ACTION, y)
    np.testing.assert_allclose(loss, 0.5 * np.mean((q1 - y) ** 2) + 0.5 * np.mean((q2 - y) ** 2), rtol=1e-6)
    np.testing.assert_allclose(metrics["td_error"], (np.abs(q1 - y) + np.abs(q2 - y)) / 2, rtol=1e-6)  # of each row
    np.testing.assert_allclose(metrics["q_value"], np.mean(q1), rtol=1e-6)


def test_stacked_critics_say_what_each_says_alone():
    critics, data = td.SAC(critics=3, torso=SMALL.torso).init(jax.random.key(0), SPEC).critics, batch()
    together = sac.values(critics, data.obs, data.action)
    assert together.shape == (3, 6)
    for i in range(3):
        alone = jax.tree.map(lambda x, i=i: x[i], critics)(data.obs, data.action)
        np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-6)


def test_many_critics_are_different_and_no_longer_program():
    """So a file that asks for a million of them costs no time."""
    first, second = jax.tree.leaves(SMALL.init(KEY, SPEC).critics)[0]
    assert not np.array_equal(first, second)
    two, fifty = (
        len(jax.make_jaxpr(lambda key, n=n: td.SAC(critics=n, torso=SMALL.torso).init(key, SPEC))(KEY).eqns)
        for n in (2, 50)
    )
    assert two == fifty


UNEQUAL = td.Spec(ENV.observation_space, Box(np.float32([0, -4, 1]), np.float32([10, 4, 2])), 1000)


def test_critics_see_actions_as_the_policy_gives_them(monkeypatch):
    """What the environment took, from its bounds to [-1, 1]."""
    seen, right = [], td.SAC.critic_loss

    def critic_loss(self, critics, batch, action, *rest):
        seen.append(action)
        return right(self, critics, batch, action, *rest)

    monkeypatch.setattr(td.SAC, "critic_loss", critic_loss)
    taken = np.float32([[0, 4, 1.5], [10, 0, 2]] * 3)
    SMALL.update(SMALL.init(jax.random.key(0), UNEQUAL), batch()._replace(action=taken), jax.random.key(1))
    np.testing.assert_allclose(seen[0], [[-1, 1, 0], [1, 0, 1]] * 3, atol=1e-6)


@pytest.mark.parametrize(("entropy", "rises"), [(-2.9, False), (-3.1, True)])
def test_the_temperature_keeps_the_entropy_at_minus_the_actions_dimension(entropy, rises, monkeypatch):
    monkeypatch.setattr(td.SAC, "actor_loss", lambda self, policy, *rest: (policy.head.weight.sum() * 0, entropy))
    state = SMALL.init(jax.random.key(0), UNEQUAL)
    action = np.tile(np.float32([5, 0, 1.5]), (6, 1))
    after, _ = SMALL.update(state, batch()._replace(action=action), jax.random.key(1))
    assert (after.log_temperature > state.log_temperature) == rises


def test_the_target_and_the_actor_draw_different_actions(monkeypatch):
    keys, target, loss = [], td.SAC.target, td.SAC.actor_loss
    note = lambda key: keys.append(jax.random.key_data(key).tolist()) or key  # noqa: E731
    monkeypatch.setattr(td.SAC, "target", lambda self, state, batch, key: target(self, state, batch, note(key)))
    monkeypatch.setattr(td.SAC, "actor_loss", lambda self, *args: loss(self, *args[:-1], note(args[-1])))
    SMALL.update(SMALL.init(jax.random.key(0), SPEC), batch(), jax.random.key(1))
    assert len(keys) == 2
    assert keys[0] != keys[1]


def test_the_actor_climbs_the_critics_as_they_are_now():
    """Not as they were before this update, and not their targets."""
    state = SMALL.init(jax.random.key(0), SPEC)
    state = state._replace(targets=jax.tree.map(lambda x: x + 0.1, state.targets))
    key = jax.random.key(1)
    after, metrics = jax.jit(SMALL.update)(state, batch(), key)
    now, before, targets = (
        float(SMALL.actor_loss(state.policy, critics, SMALL.alpha(state), batch(), jax.random.split(key)[1])[0])
        for critics in (after.critics, state.critics, state.targets)
    )
    assert float(metrics["actor_loss"]) == pytest.approx(now, rel=1e-5)
    assert min(abs(now - before), abs(now - targets)) > 1e-3
