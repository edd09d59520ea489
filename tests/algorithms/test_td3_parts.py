"""TD3's targets, delay and noise in closed form, and the bugs that these checks would miss if they were weaker."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnasium.spaces import Box

import thorndike as td
from thorndike.algorithms.actor_critic import td3
from thorndike.types import Timestep, Transition

ENV = td.Pendulum()
SPEC = td.Spec(ENV.observation_space, ENV.action_space, 1000)
SMALL = td.TD3(torso=td.Torso(widths=(8,)), tau=0.1, learning_rate=1e-2)
MANY = 4000


def batch(n=6):
    rng = np.random.default_rng(0)
    obs, after, action = (jnp.asarray(rng.normal(size=(n, k)), jnp.float32) for k in (3, 3, 1))
    reward, terminated = jnp.asarray(rng.normal(size=n), jnp.float32), jnp.arange(n) % 2 == 1
    return Transition(obs, (), action, {}, reward, terminated, (), after, {})


class Says(eqx.Module):
    """A policy that does one thing everywhere."""

    action: jax.Array

    def __call__(self, obs):
        return jnp.broadcast_to(self.action, (obs.shape[0], 1))


class Parabola(eqx.Module):
    """Q_i(s, a) = height_i - (a - best_i)²."""

    best: jax.Array  # [N]
    height: jax.Array  # [N]

    def __call__(self, obs, action):
        return self.height - (action[..., 0] - self.best) ** 2


class Line(eqx.Module):
    """Q_i(s, a) = slope_i a."""

    slope: jax.Array  # [N]

    def __call__(self, obs, action):
        return self.slope * action[..., 0]


def judged(policy, critics):
    """A state with these targets; its own networks are others."""
    state = SMALL.init(jax.random.key(0), SPEC)
    return state._replace(targets=td3.Networks(Says(jnp.asarray(policy)), critics))


def test_the_target_is_the_papers():
    """y = r + γ (1 - terminated) min_i Q_i(s', μ(s'; φ⁻); θ⁻), without noise."""
    state = judged([0.5], Parabola(jnp.asarray([0.0, 1.0]), jnp.asarray([2.0, 3.0])))
    algorithm, data = dataclasses.replace(SMALL, smoothing=0.0, discount=0.9), batch()
    least = min(2 - 0.5**2, 3 - 0.5**2)
    expected = [float(r) + 0.9 * least * (not ended) for r, ended in zip(data.reward, data.terminated)]
    np.testing.assert_allclose(algorithm.target(state, data, jax.random.key(0)), expected, rtol=1e-5)


def smoothed(algorithm=SMALL, policy=0.2):
    """The actions that many targets are about: those whose value is a."""
    data = batch(MANY)._replace(reward=jnp.zeros(MANY), terminated=jnp.zeros(MANY, bool))
    state = judged([policy], Line(jnp.asarray([1.0, 1.0])))
    return np.asarray(dataclasses.replace(algorithm, discount=1.0).target(state, data, jax.random.key(1)))


def check_smoothing(action, policy=0.2):
    """N(μ, 0.2²) within 0.5 of μ, where the ends hold what would be outside."""
    noise = action - policy
    inside = np.abs(noise) < 0.5 - 1e-5
    assert np.abs(noise).max() <= 0.5 + 1e-5
    assert 1 - inside.mean() == pytest.approx(2 * scipy.stats.norm.sf(2.5), abs=0.008)
    normal = scipy.stats.truncnorm(-2.5, 2.5, scale=0.2)
    assert scipy.stats.kstest(noise[inside], normal.cdf).pvalue > 1e-3


def test_the_target_is_smoothed():
    check_smoothing(smoothed())


@pytest.mark.parametrize("bug", ["one draw for the batch", "not clipped", "none", "of another size"])
def test_bugs_of_the_smoothing_are_noticed(bug, monkeypatch):
    algorithm = SMALL
    if bug == "one draw for the batch":
        normal = td3.normal
        monkeypatch.setattr(td3, "normal", lambda key, shape: jnp.broadcast_to(normal(key, (1, *shape[1:])), shape))
    elif bug == "not clipped":
        algorithm = dataclasses.replace(SMALL, smoothing_clip=1e9)
    else:
        algorithm = dataclasses.replace(SMALL, smoothing=0.0 if bug == "none" else 0.25)
    with pytest.raises(AssertionError):
        check_smoothing(smoothed(algorithm))


def test_smoothed_actions_stay_in_bounds():
    action = smoothed(policy=0.9)
    assert action.max() == 1.0
    assert (action == 1.0).mean() == pytest.approx(scipy.stats.norm.sf(0.5), abs=0.04)


def moved(algorithm, n=4):
    """Which of the policy, the critics and the targets each of n updates changes."""
    state, seen = algorithm.init(jax.random.key(0), SPEC), []
    update = jax.jit(algorithm.update)
    for i in range(n):
        after, _ = update(state, batch(), jax.random.key(i))
        pairs = [(getattr(state, name), getattr(after, name)) for name in ("policy", "critics", "targets")]
        seen.append(tuple(not np.array_equal(*(jax.tree.leaves(x)[0] for x in pair)) for pair in pairs))
        state = after
    return seen


def test_the_policy_and_the_targets_are_delayed():
    """One update of them for two of the critics, the second first; DDPG's move each time."""
    late, both = (False, True, False), (True, True, True)
    assert moved(SMALL) == [late, both, late, both]
    assert moved(dataclasses.replace(SMALL, delay=3)) == [late, late, both, late]
    assert moved(td.DDPG(torso=SMALL.torso), 2) == [both, both]


def test_targets_follow_softly():
    """θ⁻ <- θ⁻ + τ (θ - θ⁻), from equal beginnings, towards what this update made; the critics differ."""
    algorithm = dataclasses.replace(SMALL, delay=1)
    state = algorithm.init(jax.random.key(0), SPEC)
    assert not np.array_equal(*state.critics.head.weight)
    after, _ = jax.jit(algorithm.update)(state, batch(), jax.random.key(1))
    for old, online, new in zip(
        *map(jax.tree.leaves, (state.targets, td3.Networks(after.policy, after.critics), after.targets))
    ):
        np.testing.assert_allclose(new, old + 0.1 * (online - old), rtol=1e-5, atol=1e-7)
    for a, b in zip(*map(jax.tree.leaves, (state.targets, td3.Networks(state.policy, state.critics)))):
        np.testing.assert_array_equal(a, b)


def test_the_actor_climbs_the_first_critic():
    """-Q_1(s, μ(s)), whatever the others say."""
    critics = Parabola(jnp.asarray([0.3, -0.5]), jnp.asarray([5.0, 0.0]))
    loss, gradient = jax.value_and_grad(SMALL.actor_loss)(Says(jnp.asarray([0.1])), critics, batch())
    np.testing.assert_allclose(loss, -(5 - 0.2**2), rtol=1e-6)
    np.testing.assert_allclose(gradient.action, [-2 * 0.2], rtol=1e-5)  # down this loss is towards 0.3


def test_the_metrics_of_the_policy_are_means_over_its_own_updates():
    """In an update without one they are 0, and in the other twice as large."""
    state = SMALL.init(jax.random.key(0), SPEC)
    first, metrics = SMALL.update(state, batch(), jax.random.key(0))
    assert metrics["actor_loss"] == 0
    second, metrics = SMALL.update(first, batch(), jax.random.key(1))
    loss = SMALL.actor_loss(first.policy, second.critics, batch())
    np.testing.assert_allclose(metrics["actor_loss"], 2 * loss, rtol=1e-5)


def test_the_critics_are_fitted_to_the_target():
    """Σ_i E[½ (Q_i(s, a) - y)²]."""
    critics, action, y = Line(jnp.asarray([1.0, 3.0])), jnp.full((6, 1), 0.5), np.arange(6) / 10
    loss, metrics = SMALL.critic_loss(critics, batch(), action, y)
    np.testing.assert_allclose(loss, 0.5 * np.mean((0.5 - y) ** 2) + 0.5 * np.mean((1.5 - y) ** 2), rtol=1e-6)
    np.testing.assert_allclose(metrics["td_error"], (np.abs(0.5 - y) + np.abs(1.5 - y)) / 2, rtol=1e-6)


@pytest.mark.parametrize("std", [0.1, 10.0])
def test_training_is_noisy_and_evaluation_is_not(std):
    """Noise is in halves of the action's range, here 2 and 5, and what is played is in the range."""
    space = Box(np.float32([-2, 0]), np.float32([2, 10]))
    algorithm = dataclasses.replace(SMALL, exploration=td.Gaussian(std=std))
    state = algorithm.init(jax.random.key(0), td.Spec(ENV.observation_space, space, 1000))
    actor, no = algorithm.actor(state), jnp.zeros(MANY, bool)
    now = Timestep(jnp.ones((MANY, 3)), jnp.zeros(MANY), no, no, jnp.ones((MANY, 3)), no, {})
    carry = algorithm.carry(actor, MANY)
    greedy, noisy = (np.asarray(algorithm.act(actor, carry, now, jax.random.key(1), x)[0]) for x in (False, True))
    assert (greedy == greedy[0]).all()
    if std == 0.1:
        np.testing.assert_allclose((noisy - greedy).std(0), [0.2, 0.5], rtol=0.06)
    else:
        assert space.contains(noisy.min(0))
        assert space.contains(noisy.max(0))
        assert ((noisy == space.low) | (noisy == space.high)).mean() > 0.8


def test_critics_see_actions_as_the_policy_gives_them(monkeypatch):
    """What the environment took, from its bounds to [-1, 1]."""
    seen, right = [], td.TD3.critic_loss
    note = lambda self, critics, batch, action, y: seen.append(action) or right(self, critics, batch, action, y)  # noqa: E731
    monkeypatch.setattr(td.TD3, "critic_loss", note)
    spec = td.Spec(ENV.observation_space, Box(np.float32([0, -4, 1]), np.float32([10, 4, 2])), 1000)
    taken = jnp.asarray([[0, 4, 1.5], [10, 0, 2]] * 3)
    SMALL.update(SMALL.init(jax.random.key(0), spec), batch()._replace(action=taken), jax.random.key(1))
    np.testing.assert_allclose(seen[0], [[-1, 1, 0], [1, 0, 1]] * 3, atol=1e-6)


def test_ddpg_is_td3_without_what_td3_added():
    """One critic, whose target is r + γ (1 - terminated) Q(s', μ(s'; φ⁻); θ⁻), whatever the key."""
    algorithm = td.DDPG(torso=SMALL.torso, discount=0.9)
    state, data = algorithm.init(jax.random.key(0), SPEC), batch()
    assert state.critics.head.weight.shape[0] == 1
    one = jax.tree.map(lambda x: x[0], state.targets.critics)
    after = one(data.next_obs, state.targets.policy(data.next_obs))
    expected = data.reward + 0.9 * jnp.where(data.terminated, 0, after)
    for key in range(2):
        np.testing.assert_allclose(algorithm.target(state, data, jax.random.key(key)), expected, rtol=1e-5)


def test_other_spaces_are_refused():
    from gymnasium.spaces import Discrete

    assert "Discrete(2) is not a Box" in SMALL.supports(td.Spec(ENV.observation_space, Discrete(2), 10))
    assert "finite" in SMALL.supports(td.Spec(ENV.observation_space, Box(-np.inf, np.inf, (1,)), 10))
    assert td.DDPG().supports(td.Spec(ENV.observation_space, Discrete(2), 10)).startswith("DDPG")
