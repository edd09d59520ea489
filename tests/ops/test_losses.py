"""Losses and measures of fit against SciPy, optax and rlax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax
import scipy.special
import scipy.stats

from thorndike.ops.losses import explained_variance, huber, standardise

ERRORS = np.linspace(-4, 4, 81, dtype=np.float32)


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.5])
def test_huber_equals_scipy_optax_and_rlax(delta):
    got = huber(ERRORS, delta)
    np.testing.assert_allclose(got, scipy.special.huber(delta, ERRORS.astype(float)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(got, optax.losses.huber_loss(ERRORS, delta=delta), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(got, rlax.huber_loss(ERRORS, delta), rtol=1e-5, atol=1e-7)


def test_huber_gradient_is_the_clipped_error():
    slope = jax.vmap(jax.grad(huber))(ERRORS)
    np.testing.assert_allclose(slope, np.clip(ERRORS, -1, 1), rtol=1e-6, atol=1e-6)


def test_explained_variance_of_a_regression_is_r_squared():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 25))
    y = 0.7 * x + rng.normal(size=x.shape)
    line = scipy.stats.linregress(x.ravel(), y.ravel())
    prediction = jnp.asarray(line.intercept + line.slope * x)
    target = jnp.asarray(y)
    assert float(explained_variance(prediction, target)) == pytest.approx(line.rvalue**2, rel=1e-4)
    assert float(explained_variance(prediction + 100, target)) == pytest.approx(line.rvalue**2, rel=1e-2)  # no bias
    assert float(explained_variance(target, target)) == 1
    assert float(explained_variance(jnp.full_like(target, 3.0), target)) == pytest.approx(0, abs=1e-6)
    assert float(explained_variance(-target, target)) == pytest.approx(-3, rel=1e-5)
    assert np.isfinite(explained_variance(target, jnp.ones_like(target)))


def test_standardise_equals_scipy():
    x = np.random.default_rng(1).normal(5, 3, (8, 25)).astype(np.float32)
    np.testing.assert_allclose(standardise(jnp.asarray(x)), scipy.stats.zscore(x, axis=None), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(standardise(jnp.full((4,), 2.0)), np.zeros(4))
