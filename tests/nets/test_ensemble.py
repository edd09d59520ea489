"""Probabilistic ensembles: densities against SciPy, a cubic whose noise is known, and ensembles that are none."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

import thorndike as td
from thorndike.configuration import check
from thorndike.nets import ensemble

MODEL = td.Gaussians(members=5, widths=(32, 32), keep=0.8)
NOISE, ROWS, BATCH, STEPS = 3.0, 400, 128, 1500


def test_the_loss_is_the_density_and_the_cross_entropy():
    """-2 log N(y; μ, σ²) - log 2π, averaged over targets, and -log Bernoulli, over each member's rows."""
    rng = np.random.default_rng(0)
    mean, y, log_var = rng.normal(size=(3, 8, 2)), rng.normal(size=(8, 2)), rng.normal(size=(3, 8, 2))
    logit, yes, masks = rng.normal(size=(3, 8)), rng.random(8) < 0.5, rng.random((8, 3)) < 0.7
    found = ensemble.Said(*map(jnp.float32, (mean, log_var, logit)))
    density = -2 * scipy.stats.norm.logpdf(y, mean, np.exp(0.5 * log_var)) - np.log(2 * np.pi)
    entropy = -scipy.stats.bernoulli.logpmf(yes, scipy.special.expit(logit))
    rows = density.mean(-1) + entropy
    expected = [rows[k, masks[:, k]].mean() for k in range(3)]
    loss = ensemble.likelihood_loss(found, jnp.float32(y), jnp.asarray(yes), jnp.asarray(masks))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    error, there = ensemble.held_out(found, jnp.float32(y), jnp.asarray(masks))
    np.testing.assert_allclose(error, [((y - mean[k]) ** 2)[~masks[:, k]].mean() for k in range(3)], rtol=1e-4)
    assert there.all()
    assert not ensemble.held_out(found, jnp.float32(y), jnp.ones((8, 3), bool))[1].any()


def slope(x):
    return float(jax.grad(ensemble.softly_bounded)(x))


@pytest.mark.parametrize("bound", [ensemble.LEAST_LOG_VAR, ensemble.MOST_LOG_VAR])
def test_variances_stay_within_bounds_that_have_gradients(bound, monkeypatch):
    for x in (-1e3, 1e3):
        assert ensemble.LEAST_LOG_VAR - 1e-3 <= float(ensemble.softly_bounded(x)) <= ensemble.MOST_LOG_VAR + 1e-3
    beyond = bound + np.sign(bound) * 2
    assert 0.05 < slope(beyond) < slope(-3.0) < 1
    monkeypatch.setattr(
        ensemble, "softly_bounded", lambda x: jnp.clip(x, ensemble.LEAST_LOG_VAR, ensemble.MOST_LOG_VAR)
    )
    assert slope(beyond) == 0


def test_members_begin_apart_and_learn_from_rows_of_their_own():
    members = MODEL.build(jax.random.key(0), 1, 1)
    mean = ensemble.said_by_all(members, jnp.ones((1, 1))).mean[:, 0, 0]
    assert np.abs(np.subtract.outer(mean, mean))[~np.eye(5, dtype=bool)].min() > 1e-3
    masks = np.asarray(MODEL.masks(jax.random.key(1), 20_000), float)
    together = masks.T @ masks / len(masks)
    np.testing.assert_allclose(np.diag(together), 0.8, atol=0.015)
    np.testing.assert_allclose(together[~np.eye(5, dtype=bool)], 0.8**2, atol=0.015)  # independent


def cubic(loss=None):
    """Members fitted to y = x³ + N(0, 3²) on [-4, 4]: σ̂ in units of y inside, and how far apart they are at |x| = 6,
    in units of how far they are inside."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-4, 4, (ROWS, 1))
    y = x**3 + NOISE * rng.normal(size=x.shape)
    scale = y.std()
    x_, y_ = jnp.float32(x / x.std()), jnp.float32(y / scale)
    no, masks = jnp.zeros(ROWS, bool), MODEL.masks(jax.random.key(1), ROWS)
    members, adam = MODEL.build(jax.random.key(0), 1, 1), optax.adam(3e-3)

    def objective(members, rows):
        return ensemble.likelihood_loss(ensemble.said_by_all(members, x_[rows]), y_[rows], no[rows], masks[rows]).sum()

    def step(carry, key):
        members, state = carry
        rows = jax.random.randint(key, (BATCH,), 0, ROWS)
        updates, state = adam.update(jax.grad(objective)(members, rows), state)
        return (optax.apply_updates(members, updates), state), None

    run = jax.jit(
        lambda members: jax.lax.scan(step, (members, adam.init(members)), jax.random.split(jax.random.key(2), STEPS))
    )
    members = run(members)[0][0]
    at = lambda x: ensemble.said_by_all(members, jnp.float32(x)[:, None] / x_std)  # noqa: E731
    x_std = float(x.std())
    inside = at(np.linspace(-3, 3, 61))
    std = float(jnp.exp(0.5 * inside.log_var).mean()) * scale
    apart = ensemble.disagreement(at(np.array([-6.0, 6.0]))).mean() / ensemble.disagreement(inside).mean()
    return std, float(apart)


def test_noise_and_ignorance_are_told_apart():
    std, apart = cubic()
    assert abs(std / NOISE - 1) < 0.25
    assert apart > 5


def test_a_variance_taken_for_a_deviation_misses_the_noise(monkeypatch):
    right = ensemble.likelihood_loss
    doubled = lambda found, *rest: right(found._replace(log_var=2 * found.log_var), *rest)  # noqa: E731
    monkeypatch.setattr(ensemble, "likelihood_loss", doubled)
    assert abs(cubic()[0] / NOISE - 1) > 0.5


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (td.Gaussians(elites=6), "some of the 5 members"),
        (td.Gaussians(elites=2, keep=1.0), "set keep below 1"),
        (td.Gaussians(members=0), "must be positive"),
        (td.Gaussians(widths=(8, 0)), "must be positive"),
    ],
)
def test_what_does_not_fit_is_said(model, says):
    check(td.Gaussians(elites=5, keep=1.0))
    with pytest.raises(td.ConfigError, match=says):
        check(model)
