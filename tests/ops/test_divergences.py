"""KL divergences of action distributions against distrax, and against a mean over draws."""

from __future__ import annotations

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thorndike.ops.distributions import ILLEGAL, Bernoulli, Categorical, MultiCategorical, Normal

rng = np.random.default_rng(0)
draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
MASKED = jnp.where(jnp.asarray([True, False, True, True]), draw(2, 5, 4), ILLEGAL)
PAIRS = {
    "categorical": (Categorical(draw(5, 4)), Categorical(draw(5, 4))),
    "masked": (Categorical(MASKED[0]), Categorical(MASKED[1])),
    "several": (MultiCategorical(draw(5, 2, 3)), MultiCategorical(draw(5, 2, 3))),
    "bits": (Bernoulli(draw(5, 3)), Bernoulli(draw(5, 3))),
    "normal": (Normal(draw(5, 2), 0.3 * draw(2)), Normal(draw(5, 2), 0.3 * draw(2))),
}


def reference(pi):
    if isinstance(pi, Categorical):
        return distrax.Categorical(pi.logits)
    if isinstance(pi, MultiCategorical):
        return distrax.Independent(distrax.Categorical(pi.logits), 1)
    if isinstance(pi, Bernoulli):
        return distrax.Independent(distrax.Bernoulli(pi.logits), 1)
    return distrax.MultivariateNormalDiag(pi.mean, jnp.broadcast_to(jnp.exp(pi.log_std), pi.mean.shape))


@pytest.mark.parametrize("name", PAIRS)
def test_against_distrax(name):
    ours, theirs = PAIRS[name]
    found = ours.kl(theirs)
    assert found.shape == (5,)
    assert (found > 0.01).all()
    np.testing.assert_allclose(found, reference(ours).kl_divergence(reference(theirs)), rtol=1e-4)
    np.testing.assert_allclose(ours.kl(ours), 0, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_against_a_mean_over_draws(name):
    """E[log π - log π'] over 10⁵ draws of π: the direction is the right one."""
    ours, theirs = PAIRS[name]
    many = type(ours)(*(jnp.broadcast_to(x, (100_000, *x.shape)) if x.ndim > 1 else x for x in ours))
    action = many.sample(jax.random.key(1))
    difference = np.asarray(many.log_prob(action) - theirs.log_prob(action), np.float64)
    error = 5 * difference.std(0) / np.sqrt(100_000)
    assert (np.abs(difference.mean(0) - np.asarray(ours.kl(theirs))) < error).all()


def test_gradients_are_finite_where_actions_are_illegal():
    ours, theirs = PAIRS["masked"]
    gradient = jax.grad(lambda logits: Categorical(logits).kl(theirs).sum())(ours.logits)
    assert np.isfinite(gradient).all()
    bits = Bernoulli(jnp.asarray([[ILLEGAL, -ILLEGAL, 0.5]]))
    assert np.isfinite(jax.grad(lambda logits: bits.kl(Bernoulli(logits)).sum())(bits.logits + 0.1)).all()
