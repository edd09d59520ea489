"""Distributional losses against rlax, double loops and closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
import scipy.special

from thorndike.ops.distributional import divergence, midpoints, project, quantile_huber
from thorndike.ops.rescaling import squashed, unsquashed

ATOMS = np.linspace(-2, 3, 11).astype(np.float32)
RNG = np.random.default_rng(0)


def projected(values, probabilities, atoms):
    """Algorithm 1 of Bellemare et al. 2017, one atom after the other."""
    out, step = np.zeros(len(atoms)), atoms[1] - atoms[0]
    for y, p in zip(values, probabilities):
        place = (np.clip(y, atoms[0], atoms[-1]) - atoms[0]) / step
        low = int(np.floor(place + 1e-6))
        out[low] += p * (1 - (place - low))
        if low + 1 < len(atoms):
            out[low + 1] += p * (place - low)
    return out


@pytest.mark.parametrize("kind", ["between atoms", "on atoms", "outside", "one value"])
def test_projection_equals_rlax_and_algorithm_1(kind):
    """Also where values lie on atoms, where rounding down and up give the same atom, or beyond the ends."""
    values = {
        "between atoms": RNG.uniform(-2, 3, (3, 4, 7)), "on atoms": RNG.choice(ATOMS, (3, 4, 7)),
        "outside": RNG.normal(size=(3, 4, 7)) * 20, "one value": np.full((3, 4, 7), 1.25),
    }[kind].astype(np.float32)  # fmt: skip
    p = RNG.dirichlet(np.ones(7), (3, 4)).astype(np.float32)
    got = project(jnp.asarray(values), jnp.asarray(p), jnp.asarray(ATOMS))
    assert got.shape == (3, 4, 11)
    np.testing.assert_allclose(got.sum(-1), 1, atol=1e-5)
    for i in np.ndindex(3, 4):
        order = np.argsort(values[i])
        np.testing.assert_allclose(got[i], projected(values[i], p[i], ATOMS), atol=2e-5)
        if len(set(values[i])) == 7:
            rows = (jnp.asarray(x) for x in (values[i][order], p[i][order], ATOMS))
            np.testing.assert_allclose(got[i], rlax.categorical_l2_project(*rows), atol=2e-5)
    if kind != "outside":
        np.testing.assert_allclose(got @ ATOMS, (values * p).sum(-1), atol=1e-5)


def test_divergence_equals_scipy_and_is_zero_at_its_target():
    target = RNG.dirichlet(np.ones(5), 20).astype(np.float32)
    target[0] = np.eye(5)[2]
    logits = RNG.normal(size=(20, 5)).astype(np.float32)
    expected = scipy.special.rel_entr(target, scipy.special.softmax(logits, -1)).sum(-1)
    np.testing.assert_allclose(divergence(target, logits), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(divergence(target[1:], np.log(target[1:])), 0, atol=1e-5)
    slope = jax.grad(lambda x: divergence(target, x).sum())(logits)
    np.testing.assert_allclose(slope, scipy.special.softmax(logits, -1) - target, atol=1e-5)


def losses(quantiles, fractions, target, kappa):
    total = 0.0
    for q, tau in zip(quantiles, fractions):
        for y in target:
            u = y - q
            huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
            total += abs(tau - (u < 0)) * huber / kappa / len(target)
    return total


@pytest.mark.parametrize("kappa", [0.1, 1.0, 3.0])
def test_quantile_huber_equals_a_double_loop_and_rlax(kappa):
    """rlax leaves out the division by κ, as eq. 10 of 2018a does."""
    quantiles, target = (RNG.normal(size=(2, 3, n)).astype(np.float32) * 2 for n in (6, 4))
    fractions = RNG.uniform(size=(2, 3, 6)).astype(np.float32)
    got = quantile_huber(quantiles, fractions, target, kappa)

    def oracle(q):
        each = jax.vmap(jax.vmap(lambda *a: rlax.quantile_regression_loss(*a, kappa)))
        return each(q, fractions, target) / kappa

    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(got[i], losses(quantiles[i], fractions[i], target[i], kappa), rtol=1e-4)
    np.testing.assert_allclose(got, oracle(jnp.asarray(quantiles)), rtol=1e-4)
    slope = jax.grad(lambda q: quantile_huber(q, fractions, target, kappa).sum())(jnp.asarray(quantiles))
    np.testing.assert_allclose(slope, jax.grad(lambda q: oracle(q).sum())(jnp.asarray(quantiles)), rtol=1e-4, atol=1e-6)


def test_the_target_has_no_gradient():
    q, y = jnp.asarray([0.0, 1.0]), jnp.asarray([2.0, -1.0])
    assert (jax.grad(lambda y: quantile_huber(q, midpoints(2), y))(y) == 0).all()


def test_its_minimum_are_the_quantiles():
    """Gradient descent on samples of an exponential distribution finds -log(1 - τ) where κ is small."""
    sample = jnp.asarray(-np.log(1 - midpoints(2000)))
    fractions, theta = midpoints(5), jnp.zeros(5)
    step = jax.jit(lambda q: q - 0.02 * jax.grad(lambda q: quantile_huber(q, fractions, sample, 0.01))(q))
    for _ in range(1500):
        theta = step(theta)
    np.testing.assert_allclose(theta, -np.log(1 - fractions), atol=0.07)


def test_rescaling_equals_rlax_and_has_an_inverse():
    x = np.concatenate([-np.logspace(-3, 4, 40), [0], np.logspace(-3, 4, 40)]).astype(np.float32)
    np.testing.assert_allclose(squashed(x), rlax.signed_hyperbolic(x, 1e-3), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(unsquashed(squashed(x)), x, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(unsquashed(x), rlax.signed_parabolic(x.astype(np.float64), 1e-3), rtol=2e-2, atol=1e-3)
