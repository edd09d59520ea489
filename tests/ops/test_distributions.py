"""Action distributions against SciPy and distrax: densities, entropies, samples, masks."""

from __future__ import annotations

import itertools

import distrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.nets.mlp import Dense
from thorndike.nets.policy import PolicyHead
from thorndike.ops.distributions import ILLEGAL, Bernoulli, Categorical, MultiCategorical, Normal, TanhNormal

N = 20_000
LOGITS = np.random.default_rng(0).normal(0, 2, (3, 4)).astype(np.float32)


def head(space, features: int = 3) -> PolicyHead:
    """A policy whose last layer is far from uniform."""
    made = PolicyHead(jax.random.key(0), features, space)
    linear = Dense(jax.random.key(1), features, made.actions.dimensions, gain=1.5)
    return eqx.tree_at(lambda h: h.linear, made, linear)


def draws(pi, n: int = N) -> np.ndarray:
    """Samples [n, ...]."""
    many = type(pi)(*(jnp.broadcast_to(x, (n, *x.shape)) for x in pi))
    return np.asarray(many.sample(jax.random.key(7, impl="rbg")))  # compiles faster than the default


def check_frequencies(samples: np.ndarray, probabilities: np.ndarray) -> None:
    """Chi-square of integer samples [n] against probabilities [A]; what has none never happens."""
    counts = np.bincount(samples, minlength=len(probabilities))
    possible = np.asarray(probabilities) > 0
    assert counts[~possible].sum() == 0
    expected = np.asarray(probabilities, float)[possible]
    if possible.sum() > 1:
        assert scipy.stats.chisquare(counts[possible], len(samples) * expected / expected.sum()).pvalue > 1e-3


def test_categorical():
    pi, reference = Categorical(LOGITS), distrax.Categorical(jnp.asarray(LOGITS))
    probabilities = scipy.special.softmax(LOGITS.astype(float), -1)
    for a in range(4):
        action = jnp.full(3, a)
        np.testing.assert_allclose(pi.log_prob(action), np.log(probabilities[:, a]), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(pi.log_prob(action), reference.log_prob(action), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pi.entropy(), scipy.stats.entropy(probabilities, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(pi.entropy(), reference.entropy(), rtol=1e-5)
    np.testing.assert_array_equal(pi.mode(), reference.mode())
    samples = draws(pi)
    for row in range(3):
        check_frequencies(samples[:, row], probabilities[row])


def test_categorical_with_a_mask():
    mask = np.array([[1, 1, 0, 1], [0, 0, 1, 0], [1, 0, 1, 0]], bool)
    policy, features = head(Discrete(4)), LOGITS[:, :3]
    raw = np.asarray(policy(features).logits, float)
    pi = policy(features, jnp.asarray(mask))
    assert (pi.logits[~mask] == ILLEGAL).all()
    expected = np.where(mask, np.exp(raw), 0) / np.where(mask, np.exp(raw), 0).sum(-1, keepdims=True)
    np.testing.assert_allclose(jnp.exp(pi.log_probs), expected, rtol=1e-4, atol=1e-30)
    np.testing.assert_allclose(pi.entropy(), scipy.stats.entropy(expected, axis=-1), rtol=1e-4, atol=1e-6)
    samples = draws(pi)
    for row in range(3):
        check_frequencies(samples[:, row], expected[row])

    def objective(weight):
        pi = eqx.tree_at(lambda h: h.linear.weight, policy, weight)(features, jnp.asarray(mask))
        return (pi.entropy() + pi.log_prob(jnp.array([0, 2, 2]))).sum()

    gradient = jax.grad(objective)(policy.linear.weight)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("masked", [False, True])
def test_multicategorical_of_unequal_sizes(masked):
    sizes, features = [2, 5, 3], LOGITS[:1, :3]
    policy = head(MultiDiscrete(sizes))
    mask = np.array([[1, 1, 1, 0, 1, 0, 1, 0, 1, 1]], bool) if masked else None
    pi = policy(features, mask if mask is None else jnp.asarray(mask))
    assert isinstance(pi, MultiCategorical)
    flat = np.asarray(features @ policy.linear.weight + policy.linear.bias, float)[0]
    flat = flat if mask is None else np.where(mask[0], flat, -np.inf)
    parts = [scipy.special.softmax(part) for part in np.split(flat, np.cumsum(sizes)[:-1])]
    joint = np.einsum("i,j,k->ijk", *parts)
    actions = np.array(list(itertools.product(*map(range, sizes))))
    got = np.exp(np.asarray(pi.log_prob(jnp.asarray(actions)[:, None]))[:, 0])
    np.testing.assert_allclose(got, joint.ravel(), rtol=1e-4, atol=1e-12)
    assert got.sum() == pytest.approx(1, rel=1e-5)
    assert float(pi.entropy()[0]) == pytest.approx(sum(map(scipy.stats.entropy, parts)), rel=1e-4)
    np.testing.assert_array_equal(pi.mode()[0], [part.argmax() for part in parts])
    samples = draws(pi)[:, 0]
    check_frequencies(np.ravel_multi_index(samples.T, sizes), joint.ravel())


def test_multicategorical_over_a_grid_of_choices():
    space = MultiDiscrete([[2, 3], [4, 2]])
    policy = head(space)
    pi = policy(LOGITS[:, :3])
    action = pi.sample(jax.random.key(0))
    assert action.shape == (3, 4)
    out = policy.actions.to_environment(action)
    assert out.shape == (3, 2, 2)
    assert all(space.contains(np.asarray(row, np.int64)) for row in out)
    np.testing.assert_array_equal(policy.actions.from_environment(out), action)


def test_bernoulli():
    logits = LOGITS[:, :3]
    pi, reference = Bernoulli(logits), distrax.Bernoulli(jnp.asarray(logits))
    everything = np.array(list(itertools.product([0, 1], repeat=3)), np.int8)
    log_probs = jnp.stack([pi.log_prob(jnp.broadcast_to(bits, (3, 3))) for bits in everything])
    expected = np.stack([reference.log_prob(jnp.broadcast_to(bits, (3, 3))).sum(-1) for bits in everything])
    np.testing.assert_allclose(log_probs, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jnp.exp(log_probs).sum(0), np.ones(3), rtol=1e-5)
    np.testing.assert_allclose(pi.entropy(), reference.entropy().sum(-1), rtol=1e-5)
    p = scipy.special.expit(logits.astype(float))
    np.testing.assert_allclose(pi.entropy(), scipy.stats.bernoulli(p).entropy().sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(pi.mode(), p > 0.5)
    samples = draws(pi)
    assert samples.dtype == np.int8
    for i, j in np.ndindex(3, 3):
        check_frequencies(samples[:, i, j], np.array([1 - p[i, j], p[i, j]]))
    policy = head(MultiBinary([2, 2]))
    assert isinstance(policy(logits), Bernoulli)
    assert MultiBinary([2, 2]).contains(np.asarray(policy.actions.to_environment(policy(logits).mode()))[0])


def test_bernoulli_far_out_and_masked():
    pi = Bernoulli(jnp.array([[300.0, -300.0, ILLEGAL]]))
    assert float(pi.entropy()[0]) == pytest.approx(0, abs=1e-6)
    assert float(pi.log_prob(jnp.array([[1, 0, 0]]))[0]) == 0
    assert float(pi.log_prob(jnp.array([[0, 0, 0]]))[0]) == -300
    assert (draws(pi, 100) == [[1, 0, 0]]).all()


MEAN = np.random.default_rng(1).normal(0, 2, (3, 2)).astype(np.float32)
LOG_STD = np.array([-1.0, 0.7], np.float32)


def test_normal():
    pi = Normal(MEAN, LOG_STD)
    reference = distrax.MultivariateNormalDiag(jnp.asarray(MEAN), jnp.exp(jnp.broadcast_to(LOG_STD, MEAN.shape)))
    action = MEAN + np.random.default_rng(2).normal(0, 3, (3, 2)).astype(np.float32)
    expected = scipy.stats.norm(MEAN, np.exp(LOG_STD))
    np.testing.assert_allclose(pi.log_prob(action), expected.logpdf(action).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(pi.log_prob(action), reference.log_prob(jnp.asarray(action)), rtol=1e-5)
    np.testing.assert_allclose(pi.entropy(), expected.entropy().sum(-1), rtol=1e-5)
    np.testing.assert_allclose(pi.entropy(), reference.entropy(), rtol=1e-5)
    np.testing.assert_array_equal(pi.mode(), MEAN)
    samples = draws(Normal(MEAN, jnp.broadcast_to(LOG_STD, MEAN.shape)))
    for i, j in np.ndindex(3, 2):
        assert scipy.stats.kstest(samples[:, i, j], scipy.stats.norm(MEAN[i, j], np.exp(LOG_STD[j])).cdf).pvalue > 1e-3
    z = (samples - MEAN) / np.exp(LOG_STD)
    assert abs(np.corrcoef(z[:, 0, 0], z[:, 0, 1])[0, 1]) < 0.03
    policy = PolicyHead(jax.random.key(0), 3, Box(-2, 4, (2,)), log_std=-0.5)
    np.testing.assert_array_equal(policy(LOGITS[:, :3]).log_std, [-0.5, -0.5])


def pushed(monkeypatch, pi: TanhNormal, noise: np.ndarray):
    """Action and log-density for the given standard normal noise."""
    with monkeypatch.context() as patch:
        patch.setattr(jax.random, "normal", lambda key, shape: jnp.asarray(noise, jnp.float32).reshape(shape))
        return [np.asarray(x, float) for x in pi.sample_and_log_prob(jax.random.key(0))]


def check_tanh_density(monkeypatch) -> None:
    """log π(a) = log N(u) - Σ log(1 - tanh² u) in double precision, u up to ±60, where float32's tanh is ±1."""
    noise = np.linspace(-6, 6, 121)[:, None] * np.ones(2)
    mean = np.broadcast_to(np.array([0.3, -20.0], np.float32), noise.shape)
    log_std = np.array([0.2, 2.0], np.float32)
    _, got = pushed(monkeypatch, TanhNormal(jnp.asarray(mean), jnp.asarray(log_std)), noise)
    std = np.exp(log_std.astype(float))
    u = mean + std * noise
    log_det = 2 * (np.log(2) - np.abs(u) - np.log1p(np.exp(-2 * np.abs(u))))
    expected = (scipy.stats.norm(mean, std).logpdf(u) - log_det).sum(-1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def check_tanh_integrates_to_one(monkeypatch) -> None:
    """∫ π(a) da over (-1, 1), for narrow, wide and saturated densities; 1 - |a| is taken from u, which has digits."""
    for mean, log_std in [(0.0, -1.0), (0.5, 0.0), (-3.0, 0.5), (8.0, 0.0)]:
        noise = np.linspace(-7, 7, 4001)
        pi = TanhNormal(jnp.full((4001, 1), mean), jnp.full(1, log_std))
        a, log_prob = pushed(monkeypatch, pi, noise)
        u = mean + np.exp(log_std) * noise
        np.testing.assert_allclose(a[:, 0], np.tanh(u), rtol=1e-5, atol=1e-6)
        gap = 2 / (np.exp(2 * np.abs(u)) + 1)  # 1 - |tanh u|
        left, right = u < 0, u >= 0
        total = sum(np.trapezoid(np.exp(log_prob[side]), sign * gap[side]) for side, sign in ((left, 1), (right, -1)))
        assert total == pytest.approx(1, abs=5e-3)


def test_tanh_normal_density(monkeypatch):
    check_tanh_density(monkeypatch)
    check_tanh_integrates_to_one(monkeypatch)


def test_tanh_normal_equals_distrax_and_has_finite_gradients():
    mean, log_std = jnp.asarray(MEAN), jnp.broadcast_to(LOG_STD, MEAN.shape)
    key = jax.random.key(3)
    action, got = TanhNormal(mean, log_std).sample_and_log_prob(key)
    np.testing.assert_array_equal(TanhNormal(mean, log_std).sample(key), action)
    bijector = distrax.Block(distrax.Tanh(), 1)
    u = Normal(mean, log_std).sample(key)
    reference = distrax.MultivariateNormalDiag(mean, jnp.exp(log_std)).log_prob(u) - bijector.forward_log_det_jacobian(
        u
    )
    np.testing.assert_allclose(got, reference, rtol=1e-5)
    np.testing.assert_array_equal(action, bijector.forward(u))

    def total(mean):
        action, log_prob = TanhNormal(mean, log_std).sample_and_log_prob(key)
        return (action.sum(-1) + log_prob).sum()

    for far in (0.0, 30.0, -200.0):
        assert np.isfinite(jax.grad(total)(mean + far)).all()


def test_tanh_normal_samples():
    pi = TanhNormal(jnp.array([0.3, -0.8]), jnp.array([-1.0, 0.2]))
    samples = draws(pi)
    assert np.abs(samples).max() <= 1
    for j, (mean, std) in enumerate([(0.3, np.exp(-1.0)), (-0.8, np.exp(0.2))]):
        cdf = lambda a, mean=mean, std=std: scipy.stats.norm.cdf(np.arctanh(a), mean, std)  # noqa: E731
        assert scipy.stats.kstest(np.clip(samples[:, j], -1 + 1e-7, 1 - 1e-7), cdf).pvalue > 1e-3
        assert abs((samples[:, j] < float(pi.mode()[j])).mean() - 0.5) < 0.015  # the mode is the median
