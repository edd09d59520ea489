"""TQC's truncation, targets and loss: against a list that is sorted by hand, and rlax."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

import thorndike as td
from thorndike.algorithms.actor_critic import tqc
from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.types import Transition

ENV = td.Pendulum()
SPEC = td.Spec(ENV.observation_space, ENV.action_space, 1000)
SMALL = td.TQC(
    torso=td.Torso(widths=(8,)), critics=3, quantiles=4, drop=1, discount=0.9, temperature=0.5, learning_rate=1e-2
)
B = 6


def batch():
    rng = np.random.default_rng(0)
    obs, after, action = (jnp.asarray(rng.normal(size=(B, k)), jnp.float32) for k in (3, 3, 1))
    reward, terminated = jnp.asarray(rng.normal(size=B), jnp.float32), jnp.arange(B) % 2 == 1
    return Transition(obs, (), action, {}, reward, terminated, (), after, {})


class Says:
    """A policy that always has the same action and log-probability."""

    def __call__(self, obs):
        return self

    def sample_and_log_prob(self, key):
        return jnp.zeros((B, 1)), jnp.full(B, 0.2)


class Judges(eqx.Module):
    """Critics of our choice."""

    quantiles: jax.Array  # [N, B, M]

    def __call__(self, obs, action):
        return self.quantiles


Z = jnp.asarray(np.random.default_rng(1).normal(size=(3, B, 4)), jnp.float32)


def expected_target():
    """r + γ (1 - terminated) (z - α log π) of the nine smallest of each row's twelve quantiles."""
    data, rows = batch(), []
    for b in range(B):
        pooled = sorted(float(z) for z in np.asarray(Z)[:, b].ravel())[:9]
        future = [0.9 * (z - 0.5 * 0.2) * (not data.terminated[b]) for z in pooled]
        rows.append([float(data.reward[b]) + f for f in future])
    return np.array(rows)


def target(algorithm=SMALL):
    state = SMALL.init(jax.random.key(0), SPEC)._replace(policy=Says(), targets=Judges(Z))
    return np.asarray(algorithm.target(state, batch(), jax.random.key(0)))


def test_the_target_has_the_lowest_of_all_quantiles():
    np.testing.assert_allclose(target(), expected_target(), rtol=1e-4, atol=1e-5)


def per_critic(self, z):
    return jnp.moveaxis(jnp.sort(z)[..., : z.shape[-1] - self.drop], 0, 1).reshape(z.shape[1], -1)


def lowest_dropped(self, z):
    pooled = jnp.moveaxis(z, 0, 1).reshape(z.shape[1], -1)
    return jnp.sort(pooled)[:, self.critics * self.drop :]


def rows_mixed(self, z):
    return jnp.sort(z.reshape(z.shape[1], -1))[:, : 12 - self.critics * self.drop]


@pytest.mark.parametrize("bug", [per_critic, lowest_dropped, rows_mixed, "no entropy"])
def test_other_truncations_miss_it(bug, monkeypatch):
    algorithm = SMALL
    if bug == "no entropy":
        algorithm = dataclasses.replace(SMALL, temperature=0.0)
    else:
        monkeypatch.setattr(td.TQC, "truncated", bug)
    assert np.abs(np.sort(target(algorithm)) - expected_target()).max() > 0.05


def test_nothing_dropped_keeps_the_mean():
    kept = dataclasses.replace(SMALL, drop=0).truncated(Z)
    np.testing.assert_allclose(kept.mean(1), Z.mean((0, 2)), rtol=1e-5)


@pytest.mark.parametrize("kappa", [1.0, 0.3])
def test_the_loss_is_rlaxs(kappa):
    """Averaged over quantiles and critics, and divided by κ; rlax sums over quantiles."""
    algorithm, y = dataclasses.replace(SMALL, kappa=kappa), jnp.asarray(expected_target(), jnp.float32)
    loss, metrics = algorithm.critic_loss(Judges(Z), batch(), jnp.zeros((B, 1)), y)
    tau = (jnp.arange(4) + 0.5) / 4
    each = [[rlax.quantile_regression_loss(Z[n, b], tau, y[b], kappa) / 4 / kappa for b in range(B)] for n in range(3)]
    np.testing.assert_allclose(loss, np.mean(each), rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], np.abs(Z.mean((0, 2)) - y.mean(1)), rtol=1e-4)


def test_the_policy_climbs_the_mean_of_all_quantiles():
    loss, _ = SMALL.actor_loss(Says(), Judges(Z), 0.5, batch(), jax.random.key(0))
    np.testing.assert_allclose(loss, np.mean(0.5 * 0.2 - Z.mean((0, 2))), rtol=1e-4)


def test_the_loss_is_least_at_the_quantiles_of_the_target():
    """Many steps on one batch, whose target is given: each critic comes to know its quartiles."""
    y = jnp.broadcast_to(jnp.linspace(0.0, 1.0, 101), (B, 101))

    algorithm, action = dataclasses.replace(SMALL, kappa=0.01), jnp.zeros((B, 1))

    def step(z, _):
        gradient = jax.grad(lambda z: algorithm.critic_loss(Judges(z), batch(), action, y)[0])(z)
        return z - 2.0 * gradient, None

    z, _ = jax.lax.scan(step, jnp.zeros((3, B, 4)), None, length=3000)
    np.testing.assert_allclose(z, np.broadcast_to([0.125, 0.375, 0.625, 0.875], z.shape), atol=0.02)


def test_an_update_learns(monkeypatch):
    """The critics of the state say `quantiles` numbers each; targets follow softly."""
    state = SMALL.init(jax.random.key(0), SPEC)
    assert tqc.values(state.critics, batch().obs, jnp.zeros((B, 1))).shape == (3, B, 4)
    after, metrics = jax.jit(SMALL.update)(state, batch(), jax.random.key(1))
    for old, online, new in zip(*map(jax.tree.leaves, (state.targets, after.critics, after.targets))):
        np.testing.assert_allclose(new, old + 0.005 * (online - old), rtol=1e-4, atol=1e-6)
    assert metrics["td_error"].shape == (B,)


def test_bad_numbers_are_refused():
    for bad in (td.TQC(drop=25), td.TQC(drop=-1), td.TQC(subset=2), td.TQC(actor_over="mean"), td.TQC(kappa=0.0)):
        with pytest.raises(ConfigError):
            check(bad)
