"""TRPO's step against a dense solve with the Fisher matrix by its definition, and its promise over many updates."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree

import thorndike as td
from thorndike.algorithms.policy import trpo
from thorndike.algorithms.policy.trpo import Batch, Searched, distribution
from thorndike.ops.distributions import Categorical

N = 64
SMALL = td.TRPO(torso=td.Torso(widths=(5,)), num_envs=N, rollout_length=1, cg_steps=40, log_std=-0.5)
SPECS = {
    name: td.Spec(env.observation_space, env.action_space, 1000)
    for name, env in (("discrete", td.CartPole()), ("continuous", td.Pendulum()))
}


def policy_of(name, algorithm=SMALL, scale=1.0):
    """A policy that is no longer uniform."""
    policy = algorithm.init(jax.random.key(0), SPECS[name]).params.policy
    return jax.tree.map(lambda x: x + scale * jax.random.normal(jax.random.key(x.size), x.shape), policy)


def batch(name, policy, seed=0):
    rng = np.random.default_rng(seed)
    obs = jnp.asarray(rng.normal(size=(1, N, *SPECS[name].observation.shape)), jnp.float32)
    action = distribution(policy, Batch(obs, None, None, None)).sample(jax.random.key(seed))
    return Batch(obs, None, action, jnp.asarray(rng.normal(size=(1, N)), jnp.float32))


def dense(name, policy, data):
    """The gradient of E[ρ A], and the Fisher matrix E[∇ log π ∇ log πᵀ] over states and actions, in float64."""
    flat, restore = ravel_pytree(policy)
    log_prob = lambda p, action: distribution(restore(p), data).log_prob(action)[0]  # noqa: E731  [N]
    scores = np.asarray(jax.jacrev(log_prob)(flat, data.action), np.float64)
    gradient = (scores * np.asarray(data.advantage[0])[:, None]).mean(0)
    if name == "discrete":
        matrix = 0.0
        probabilities = np.exp(np.asarray(distribution(policy, data).log_probs[0], np.float64))
        for a in range(2):
            score = np.asarray(jax.jacrev(log_prob)(flat, jnp.full((1, N), a)), np.float64)
            matrix = matrix + np.einsum("n,ni,nj->ij", probabilities[:, a], score, score) / N
    else:  # of a Gaussian: 1 / σ² for the mean, 2 for log σ
        parts = lambda p: (lambda pi: (pi.mean[0, :, 0], pi.log_std))(distribution(restore(p), data))  # noqa: E731
        mean, log_std = (np.asarray(x, np.float64) for x in jax.jacrev(parts)(flat))
        variance = float(np.exp(2 * parts(flat)[1][0]))
        matrix = mean.T @ mean / variance / N + 2 * log_std.T @ log_std
    return gradient, matrix


def step_of(name, monkeypatch, algorithm=SMALL):
    """The whole step that the line search begins with, and the one that it should be."""
    policy = policy_of(name)
    data, taken = batch(name, policy), []

    def search(self, start, step, before, surrogate, divergence):
        taken.append(step)
        return Searched(start, jnp.bool_(False), jnp.float32(0), jnp.float32(0))

    monkeypatch.setattr(td.TRPO, "search", search)
    algorithm.step(policy, data)
    gradient, matrix = dense(name, policy, data)
    matrix = matrix + 0.1 * np.eye(len(matrix))
    x = scipy.linalg.solve(matrix, gradient, assume_a="pos")
    return np.asarray(taken[0]), np.sqrt(2 * 0.01 / (x @ matrix @ x)) * x


def off(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("name", SPECS)
def test_the_step_is_that_of_a_dense_solve(name, monkeypatch):
    found, expected = step_of(name, monkeypatch)
    assert len(expected) > 25
    assert off(found, expected) < 1e-3


@pytest.mark.parametrize("bug", ["damping twice", "the plain gradient", "few steps"])
def test_bugs_miss_it(bug, monkeypatch):
    fisher = trpo.fisher
    algorithm = SMALL
    if bug == "damping twice":
        monkeypatch.setattr(trpo, "fisher", lambda divergence, at, damping: fisher(divergence, at, 2 * damping))
    elif bug == "the plain gradient":
        monkeypatch.setattr(trpo, "fisher", lambda divergence, at, damping: lambda v: v)
    else:
        algorithm = dataclasses.replace(SMALL, cg_steps=1)
    assert off(*step_of("discrete", monkeypatch, algorithm)) > 1e-2


UPDATES, DELTA = 50, 0.05


BOLD = dataclasses.replace(SMALL, max_kl=DELTA, damping=0.01, cg_steps=15)


def divergences(algorithm=BOLD):
    """KL of each of many updates by its definition, in NumPy, the gain in the surrogate, and who was accepted."""
    policy, step = policy_of("discrete", scale=0.5), jax.jit(algorithm.step)
    kls, gains, accepted = [], [], []
    for i in range(UPDATES):
        data = batch("discrete", policy, seed=i)
        after, metrics = step(policy, data)
        old, new = (np.asarray(distribution(p, data).log_probs[0], np.float64) for p in (policy, after))
        chosen = np.arange(N), np.asarray(data.action[0])
        kls.append((np.exp(old) * (old - new)).sum(-1).mean())
        gains.append(((np.exp(new - old)[chosen] - 1) * np.asarray(data.advantage[0])).mean())
        accepted.append(bool(metrics["step_accepted"]))
        policy = after
    return np.array(kls), np.array(gains), np.array(accepted)


def test_every_update_is_inside_of_the_trust_region_and_an_improvement():
    kls, gains, accepted = divergences()
    assert accepted.mean() > 0.9
    assert kls.max() <= 1.01 * DELTA
    assert np.median(kls[accepted]) > 0.3 * DELTA  # and not by standing still
    assert (gains[accepted] > 0).all()
    assert np.abs(kls[~accepted]).sum() == 0


@pytest.mark.parametrize("bug", ["no line search", "KL of a policy from itself"])
def test_bugs_leave_the_trust_region(bug, monkeypatch):
    if bug == "no line search":
        whole = lambda self, start, step, *rest: Searched(start + step, jnp.bool_(True), jnp.float32(0), jnp.float32(0))  # noqa: E731
        monkeypatch.setattr(td.TRPO, "search", whole)
    else:
        monkeypatch.setattr(Categorical, "kl", lambda self, other: 0.0 * self.entropy())
    kls, _, _ = divergences()
    assert kls.max() > 1.5 * DELTA


def test_a_search_that_fails_gives_the_old_parameters_back():
    """Also where the last trial was inside of the region and worse, or better and outside."""
    start, step = jnp.arange(3.0), jnp.ones(3)
    for gain, kl in ((-1.0, 0.0), (1.0, 1.0), (float("nan"), 0.0), (0.0, 0.0)):
        found = SMALL.search(start, step, 0.0, lambda p, gain=gain: jnp.float32(gain), lambda p, kl=kl: jnp.float32(kl))
        np.testing.assert_array_equal(found.params, start)
        assert not found.accepted
        assert found.kl == found.gain == 0


def test_the_search_takes_the_longest_step_that_is_good():
    """δ = 0.01 and KL = |θ|²: of lengths 1, 0.8, 0.64 ... the first of at most 0.1."""
    found = SMALL.search(jnp.zeros(1), jnp.ones(1), 0.0, lambda p: p.sum(), lambda p: (p**2).sum())
    assert not found.accepted  # ten lengths do not reach it
    more = dataclasses.replace(SMALL, line_steps=20)
    found = more.search(jnp.zeros(1), jnp.ones(1), 0.0, lambda p: p.sum(), lambda p: (p**2).sum())
    assert found.accepted
    assert float(found.params[0]) == pytest.approx(0.8**11)


def test_without_an_advantage_nothing_moves():
    policy = policy_of("discrete")
    data = batch("discrete", policy)._replace(advantage=jnp.zeros((1, N)))
    after, metrics = SMALL.step(policy, data)
    jax.tree.map(np.testing.assert_array_equal, policy, after)
    assert not metrics["step_accepted"]
    assert all(np.isfinite(x) for x in metrics.values())
