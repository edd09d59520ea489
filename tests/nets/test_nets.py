"""Dense layers: their initialisation, normalisation and dropout; and actions in the units of networks."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.wrappers.utils import rescale_box

from nets.oracles import mlp_in_numpy
from thorndike.nets import mlp as module
from thorndike.nets.mlp import MLP, Dense, LayerNorm, dropped, orthogonal, uniform, weights
from thorndike.nets.policy import Actions, PolicyHead

KEY = jax.random.key(0, impl="rbg")  # compiles faster than the default

# --- initialisation ---


def check_orthogonal(weight, gain: float) -> None:
    weight = np.asarray(weight, float)
    weight = weight if weight.shape[0] >= weight.shape[1] else weight.T
    np.testing.assert_allclose(weight.T @ weight, gain**2 * np.eye(weight.shape[1]), atol=2e-5 * gain**2)


@pytest.mark.parametrize("shape", [(512, 512), (512, 64), (4, 64), (64, 64), (64, 1), (1, 8), (2, 2)])
def test_orthogonal(shape):
    weight = orthogonal(jax.random.key(1), shape, 3.0)
    assert weight.shape == shape
    check_orthogonal(weight, 3.0)


@pytest.mark.parametrize(("shape", "gain"), [((64, 64), 2.0**0.5), ((17, 256), 0.01)])
def test_orthogonal_under_vmap(shape, gain):
    keys = jax.random.split(jax.random.key(2), 4)
    many = jax.jit(jax.vmap(lambda key: orthogonal(key, shape, gain)))(keys)
    for weight in many:
        check_orthogonal(weight, gain)
    np.testing.assert_allclose(many[1], orthogonal(keys[1], shape, gain), atol=1e-5 * gain)
    assert np.abs(many[0] - many[1]).max() > 0.1 * gain / 16


def test_orthogonal_is_spread_evenly():
    """Of Haar measure: every entry has mean 0 and second moment 1/n, and both signs of the determinant occur."""
    many = jax.jit(jax.vmap(lambda key: orthogonal(key, (3, 3))))(jax.random.split(jax.random.key(0), 5000))
    np.testing.assert_allclose(many.mean(0), np.zeros((3, 3)), atol=0.04)
    np.testing.assert_allclose((many**2).mean(0), np.full((3, 3), 1 / 3), atol=0.02)
    assert 0.45 < (np.linalg.det(many) > 0).mean() < 0.55


def test_orthogonal_of_far_out_draws_is_finite(monkeypatch):
    monkeypatch.setattr(jax.random, "normal", lambda key, shape: jnp.full(shape, 5.5).at[0, 0].set(-5.5))
    for shape in [(1, 1), (1, 2), (2, 1), (2, 2)]:
        check_orthogonal(orthogonal(jax.random.key(0), shape), 1.0)


def test_uniform_bounds_and_biases():
    linear = Dense(KEY, 25, 200, init="uniform", gain=2.0)
    for x in (linear.weight, linear.bias):
        assert np.abs(x).max() <= 0.4
        assert scipy.stats.kstest(np.ravel(x), scipy.stats.uniform(-0.4, 0.8).cdf).pvalue > 1e-3
    assert np.abs(uniform(KEY, (25, 200))).max() <= 0.2
    assert not Dense(KEY, 4, 64).bias.any()


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "gelu", "silu"])
def test_mlp_in_numpy(activation):
    mlp = MLP(KEY, (3, 4, 2), activation, "uniform")
    x = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(mlp(jnp.asarray(x)), mlp_in_numpy(mlp, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(520, 128), (128, 520)])
def test_large_matrices_are_orthogonal_by_their_gram_matrix(shape, monkeypatch):
    """Both ways make the same matrix of one key: the orthogonal factor of the same Gaussian one."""
    by_iteration = orthogonal(jax.random.key(3), shape, 2.0)
    monkeypatch.setattr(module, "LARGE", 1)
    by_gram = orthogonal(jax.random.key(3), shape, 2.0)
    check_orthogonal(by_gram, 2.0)
    np.testing.assert_allclose(by_gram, by_iteration, atol=1e-5)


def test_he_and_xavier():
    """He et al. 2015, equation 10; Glorot & Bengio 2010, equation 16, of a dense layer and of a 3 x 3 convolution."""
    weight, bias = weights(KEY, (50, 400), init="he")
    assert scipy.stats.kstest(np.ravel(weight), scipy.stats.norm(0, (2 / 50) ** 0.5).cdf).pvalue > 1e-3
    assert not bias.any()
    for shape, places, bound in [((50, 400), 1, (6 / 450) ** 0.5), ((9 * 4, 16), 9, (6 / (9 * 4 + 9 * 16)) ** 0.5)]:
        weight, bias = weights(KEY, shape, init="xavier", places=places)
        assert scipy.stats.kstest(np.ravel(weight), scipy.stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
        assert not bias.any()


def test_layer_norm():
    rng = np.random.default_rng(0)
    x, scale, bias = rng.normal(3, 2, (4, 5)), rng.normal(size=5), rng.normal(size=5)
    norm = LayerNorm(5)
    np.testing.assert_array_equal(norm.scale, 1.0)
    norm = eqx.tree_at(lambda n: (n.scale, n.bias), norm, (jnp.asarray(scale), jnp.asarray(bias)))
    expected = np.stack([scale * (row - row.mean()) / np.sqrt(row.var() + 1e-5) + bias for row in x])
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-5)


def test_an_mlp_normalises_before_its_activation():
    mlp = MLP(KEY, (3, 6, 4), "relu", norm="layer")
    x = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(mlp(jnp.asarray(x)), mlp_in_numpy(mlp, x), rtol=1e-4, atol=1e-5)


def test_dropout_keeps_the_mean_and_drops_its_share():
    """Of 40,000 ones about a quarter are 0, and the rest 4 / 3."""
    out = np.asarray(dropped(jax.random.key(0), jnp.ones((200, 200)), 0.25))
    np.testing.assert_allclose(np.unique(out), [0, 4 / 3], rtol=1e-6)
    assert abs((out == 0).mean() - 0.25) < 0.01


def test_dropout_is_active_where_a_key_is_given():
    mlp = MLP(KEY, (3, 64, 64), "relu", dropout=0.5)
    x = jnp.ones((4, 3))
    np.testing.assert_allclose(mlp(x), mlp_in_numpy(mlp, np.ones((4, 3))), rtol=1e-4, atol=1e-5)
    one, other = mlp(x, jax.random.key(1)), mlp(x, jax.random.key(2))
    assert not np.allclose(one, other)
    assert not np.allclose(one[0], one[1])  # each row has a mask of its own
    np.testing.assert_array_equal(one, mlp(x, jax.random.key(1)))
    masks = [np.asarray(MLP(KEY, (64, 64), "relu", dropout=0.5)(jnp.ones((1, 64)), jax.random.key(i))) for i in (1, 2)]
    assert not np.array_equal(masks[0] == 0, masks[1] == 0)
    plain = MLP(KEY, (3, 64, 64), "relu")
    np.testing.assert_array_equal(plain(x, jax.random.key(1)), plain(x))


# --- actions ---

INF = np.inf
BOXES = {
    "bounded": Box(np.float32([-2, 0, 5]), np.float32([2, 1, 9])),
    "half-bounded": Box(np.float32([0, -INF, -1]), np.float32([INF, 3, 4])),
    "unbounded": Box(-INF, INF, (2,)),
    "matrix": Box(np.float32([[-1, -2, -3], [0, 0, 0]]), np.float32([[1, 2, 3], [4, 5, 6]])),
    "number": Box(-2, 6, ()),
    "double": Box(-1e-2, 3e-2, (2,), np.float64),
    "huge": Box(np.finfo(np.float32).min, np.finfo(np.float32).max, (2,)),
}


@pytest.mark.parametrize("name", BOXES)
def test_box_actions(name):
    space = BOXES[name]
    actions = Actions.of(space)
    size = int(np.prod(space.shape))
    assert actions.dimensions == size
    unit = np.random.default_rng(0).uniform(-1, 1, (4, 5, size)).astype(np.float32)
    out = np.asarray(actions.to_environment(jnp.asarray(unit)))
    assert out.shape == (4, 5, *space.shape)
    np.testing.assert_allclose(actions.from_environment(jnp.asarray(out)), unit, rtol=1e-4, atol=1e-5)
    below, above = (np.isfinite(bound) & (name != "huge") for bound in (space.low, space.high))  # huge means infinity
    finite = below & above
    for sign, bound in ((-1, space.low), (1, space.high)):
        end = np.asarray(actions.to_environment(jnp.full(size, float(sign))))
        beside = np.where(below, space.low + 1, np.where(above, space.high - 1, 0.0))
        np.testing.assert_allclose(end, np.where(finite, bound, beside + sign), rtol=1e-6, atol=1e-6)
    if finite.all():
        _, _, backward = rescale_box(space, space.dtype.type(-1), space.dtype.type(1))
        expected = [backward(x.reshape(space.shape)) for x in unit.reshape(-1, size)]
        np.testing.assert_allclose(out.reshape(-1, *space.shape), expected, rtol=1e-4, atol=1e-5)
        assert (out >= space.low - 1e-5).all()
        assert (out <= space.high + 1e-5).all()


def test_other_actions_keep_their_units():
    for space, dimensions, flat in [
        (Discrete(4, start=3), 4, ()),
        (MultiDiscrete([[2, 3], [4, 2]]), 11, (4,)),
        (MultiBinary([2, 3]), 6, (6,)),
        (MultiBinary(3), 3, (3,)),
    ]:
        actions = Actions.of(space)
        assert actions.dimensions == dimensions
        action = np.arange(7 * int(np.prod(flat))).reshape((7, *flat))
        out = actions.to_environment(jnp.asarray(action))
        assert out.shape == (7, *space.shape)
        np.testing.assert_array_equal(np.ravel(out), np.ravel(action))
        np.testing.assert_array_equal(actions.from_environment(out), action)
        assert hash(actions) == hash(Actions.of(space))
        assert jax.eval_shape(lambda key, s=space: PolicyHead(key, 3, s).linear.weight, KEY).shape == (3, dimensions)


def test_a_dimension_without_width_is_harmless():
    actions = Actions.of(Box(np.array([0, 1], np.float32), np.array([1, 1], np.float32)))
    taken = jnp.array([[0.25, 1.0], [1.0, 1.0]])
    units = actions.from_environment(taken)
    np.testing.assert_allclose(units, [[-0.5, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(actions.to_environment(units), taken)
