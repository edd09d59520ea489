"""SAC's entropy in closed form, and Pendulum."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box
from trained import greedy, trained

import thorndike as td
from thorndike.ops.distributions import Normal, TanhNormal
from thorndike.runs.training.setup import choose
from thorndike.types import Step

SMALL = td.Torso(widths=(64, 64), activation="relu", init="uniform")
BANDIT = td.SAC(
    learning_rate=3e-3, temperature=0.2, num_envs=8, replay_ratio=1 / 2, torso=SMALL,
    replay=td.Uniform(capacity=4096, batch_size=128, warmup=512),
)  # fmt: skip
PENDULUM = td.SAC(learning_rate=1e-3, torso=SMALL, replay=td.Uniform(capacity=20_000, batch_size=128, warmup=500))


@td.config
class Bandit:
    """One step, one action in [-1, 1], reward -sharpness · a²; without sharpness entropy is all there is to gain."""

    sharpness: float = 0.0
    max_steps: int = 1

    @property
    def observation_space(self):
        return Box(-1, 1, (1,))

    @property
    def action_space(self):
        return Box(-1, 1, (1,))

    def reset(self, key):
        return Step(jnp.zeros(()), jnp.zeros(1))

    def step(self, state, action, key):
        return Step(state, jnp.zeros(1), -self.sharpness * action[0] ** 2, True)


def policy(run):
    """Entropy and mean |a| of each run's policy, by 20,000 samples."""

    def one(actor):
        keys = jax.random.split(jax.random.key(0), 20_000)
        action, log_prob = jax.vmap(lambda k: actor.policy(jnp.zeros(1)).sample_and_log_prob(k))(keys)
        return -log_prob.mean(), jnp.abs(action).mean()

    return [np.asarray(x) for x in jax.vmap(one)(run.actors())]


def check(run):
    entropy, size = policy(run)
    assert np.abs(entropy - 0.68).max() <= 0.03, entropy
    assert np.abs(size - 0.51).max() <= 0.04, size


@pytest.mark.slow
def test_the_entropy_of_a_bandit_without_reward(tmp_path):
    """A tanh-Gaussian comes within 0.015 of the uniform distribution's log 2, at σ = 0.87."""
    check(trained(tmp_path, BANDIT, Bandit(), 12_000, seeds=4))


def without_log_det(self, key):
    normal = Normal(self.mean, self.log_std)
    u = normal.sample(key)
    return jnp.tanh(u), normal.log_prob(u)


def with_wrong_sign(self, key):
    action, log_prob = sample(self, key)
    return action, -log_prob


sample = TanhNormal.sample_and_log_prob


@pytest.mark.slow
@pytest.mark.parametrize("bug", [without_log_det, with_wrong_sign])
def test_wrong_densities_lose_the_entropy(bug, tmp_path, monkeypatch):
    monkeypatch.setattr(TanhNormal, "sample_and_log_prob", bug)
    run = trained(tmp_path, BANDIT, Bandit(), 12_000)
    monkeypatch.undo()
    entropy, _ = policy(run)
    assert entropy.max() < 0, entropy  # -7 and less


AUTOMATIC = dataclasses.replace(BANDIT, temperature=None, target_entropy=0.3)


def test_the_automatic_temperature_holds_the_entropy(tmp_path):
    """A reward that calls for a = 0 would let the entropy fall for ever; α holds it at the target."""
    run = trained(tmp_path, AUTOMATIC, Bandit(sharpness=2.0), 24_000, seeds=2)
    entropy, _ = policy(run)
    assert np.abs(entropy - 0.3).max() <= 0.1, entropy


@pytest.mark.slow
def test_a_temperature_that_learns_the_wrong_way_leaves_all_entropy(tmp_path, monkeypatch):
    """At as many steps the right one has an entropy of 0.28 to 0.31."""
    from thorndike.algorithms.actor_critic import sac

    descend = sac.descend

    def upside_down(optimiser, gradient, state, params):
        temperature = hasattr(params, "shape")  # the only parameter that is a bare array
        return descend(optimiser, -gradient if temperature else gradient, state, params)

    monkeypatch.setattr(sac, "descend", upside_down)
    entropy, _ = policy(trained(tmp_path, AUTOMATIC, Bandit(sharpness=2.0), 7_000))  # from 10,000 on α overflows
    assert entropy.min() > 0.6, entropy


@pytest.mark.slow
def test_pendulum_in_20k_steps(tmp_path):
    run = trained(tmp_path, PENDULUM, "Pendulum-v1", 20_000, seeds=3)
    returns = greedy(run)
    assert (returns >= -250).all(), returns


@pytest.mark.slow
def test_pendulum_with_the_defaults(tmp_path):
    """No preset: the defaults are good enough to begin with."""
    returns = greedy(trained(tmp_path, td.SAC(), "Pendulum-v1", 20_000, seeds=5))
    print("defaults", returns)
    assert (returns >= -250).all(), returns


@pytest.mark.slow
def test_any_ratio_of_updates_to_steps(tmp_path):
    """Four environments and two updates a rollout learn the same task in more steps."""
    half = dataclasses.replace(PENDULUM, num_envs=4, replay_ratio=1 / 2)
    run = trained(tmp_path, half, "Pendulum-v1", 30_000)
    returns = greedy(run)
    assert (returns >= -250).all(), returns


@pytest.mark.slow
def test_half_cheetah_at_100k_steps(tmp_path):
    algorithm, _ = choose("sac", "HalfCheetah-v5", None)
    run = trained(tmp_path, algorithm, "HalfCheetah-v5", 100_000)
    evaluation = run.evaluate(10)
    print("HalfCheetah-v5", evaluation, run.status)
    assert evaluation.mean >= 4000
