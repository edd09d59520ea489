"""Initialisation, the CNN against loops in NumPy, and observations and actions against Gymnasium's own flattening."""

from __future__ import annotations

from collections import OrderedDict

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.wrappers.utils import rescale_box

from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.nets.cnn import NatureCNN, convolved, unfolded
from thorndike.nets.mlp import MLP, Dense, orthogonal, uniform
from thorndike.nets.policy import Actions, PolicyHead
from thorndike.nets.torso import Torso, example

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
    np.testing.assert_allclose(mlp(jnp.asarray(x)), in_numpy(mlp, x), rtol=1e-4, atol=1e-5)


def in_numpy(mlp: MLP, x: np.ndarray) -> np.ndarray:
    """The layers in double precision, with activations from their definitions."""
    f = {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
        "gelu": lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
        "silu": lambda x: x / (1 + np.exp(-x)),
    }[mlp.activation]
    for layer in mlp.layers:
        x = f(np.asarray(x, float) @ np.asarray(layer.weight, float) + np.asarray(layer.bias, float))
    return x


# --- images ---


def noisy(cnn: NatureCNN) -> NatureCNN:
    """With biases that are not 0."""
    biases = tuple(jax.random.normal(jax.random.key(i), b.shape) / 4 for i, b in enumerate(cnn.biases))
    return eqx.tree_at(lambda c: c.biases, cnn, biases)


def cnn_in_numpy(cnn: NatureCNN, image: np.ndarray) -> np.ndarray:
    """One image [H, W, C], window by window."""
    x = image.astype(float) / 255
    for kernel, bias, stride in zip(cnn.kernels, cnn.biases, cnn.strides):
        kernel = np.asarray(kernel, float)
        k = kernel.shape[0]
        height, width = ((n - k) // stride + 1 for n in x.shape[:2])
        y = np.zeros((height, width, kernel.shape[3]))
        for i, j in np.ndindex(height, width):
            window = x[i * stride : i * stride + k, j * stride : j * stride + k]
            y[i, j] = (window[..., None] * kernel).sum((0, 1, 2)) + np.asarray(bias)
        x = np.maximum(y, 0)
    return np.maximum(x.ravel() @ np.asarray(cnn.dense.weight, float) + np.asarray(cnn.dense.bias), 0)


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 20, 23, 3), np.uint8)


def check_cnn(cnn: NatureCNN, call) -> None:
    images = np.moveaxis(IMAGES, -1, -3) if cnn.channels_first else IMAGES
    out = np.asarray(call(jnp.asarray(images)[None]))
    assert out.shape == (1, 2, 512)
    for got, image in zip(out[0], IMAGES):
        np.testing.assert_allclose(got, cnn_in_numpy(cnn, image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("first", [False, True])
def test_cnn_in_numpy(first):
    cnn = noisy(NatureCNN(KEY, (3, 20, 23) if first else (20, 23, 3)))
    assert cnn.channels_first == first
    check_cnn(cnn, cnn)


@pytest.mark.parametrize("count", [1, 512, 513, 1100])
def test_many_images_go_through_in_parts(count):
    images = jax.random.normal(KEY, (count, 9, 8, 2))
    kernel = jax.random.normal(jax.random.key(1), (4, 4, 2, 5))
    for stride in (1, 2, 4):
        expected = convolved(images, kernel, stride)
        np.testing.assert_allclose(jax.jit(unfolded, static_argnums=2)(images, kernel, stride), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "kernels", "inputs"),
    [
        ((84, 84, 4), [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64)], 3136),  # the paper's
        ((4, 84, 84), [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64)], 3136),
        ((10, 10, 4), [(8, 8, 4, 32), (1, 1, 32, 64), (1, 1, 64, 64)], 64),  # MinAtar's
        ((3, 3, 20), [(3, 3, 20, 32), (1, 1, 32, 64), (1, 1, 64, 64)], 64),
        ((1, 210, 160), [(8, 8, 1, 32), (4, 4, 32, 64), (3, 3, 64, 64)], 22 * 16 * 64),
    ],
)
def test_cnn_shapes(shape, kernels, inputs):
    def run(key):
        cnn = NatureCNN(key, shape)
        return cnn, cnn(jnp.zeros((2, 3, *shape), jnp.uint8))

    cnn, out = jax.eval_shape(run, jax.random.key(0))
    assert [w.shape for w in cnn.kernels] == kernels
    assert cnn.dense.weight.shape == (inputs, 512)
    assert (out.shape, out.dtype) == ((2, 3, 512), jnp.float32)


def test_cnn_kernels_are_orthogonal():
    for kernel in NatureCNN(KEY, (10, 10, 4)).kernels:
        check_orthogonal(kernel.reshape(-1, kernel.shape[-1]), 2.0**0.5)


# --- observations ---

VECTORS = {
    "discrete": Discrete(5, start=2),
    "multidiscrete": MultiDiscrete([3, 2, 4]),
    "shifted": MultiDiscrete([3, 2], start=[-1, 4]),
    "grid of choices": MultiDiscrete([[3, 2], [2, 4]], start=[[0, 1], [2, 3]]),
    "bits": MultiBinary(4),
    "grid of bits": MultiBinary([2, 2]),
    "box": Box(-3, 3, (3,)),
    "matrix": Box(-3, 3, (2, 3)),
    "number": Box(-3, 3, ()),
    "double": Box(-3, 3, (2,), np.float64),
    "bytes": Box(0, 255, (5,), np.uint8),
    "floats in three axes": Box(0, 1, (4, 4, 2)),
    "nested": Dict(
        {
            "z": Discrete(3),
            "a": Tuple((Box(-1, 1, (2,)), MultiBinary(2), Dict({"y": Discrete(2), "b": Box(0, 1, (1,))}))),
        }
    ),
}
TORSO = Torso(widths=(7, 6), activation="tanh", init="uniform")


apply = jax.jit(lambda network, obs: network(obs))


def observations(space, n: int):
    """Samples, and the pytree of their arrays [n, ...]."""
    space.seed(3)
    rows = [space.sample() for _ in range(n)]
    return rows, jax.tree.map(lambda like, *xs: np.stack(xs).astype(like.dtype), example(space), *rows)


@pytest.mark.parametrize("name", VECTORS)
def test_network_reads_what_gymnasium_flattens(name):
    space = VECTORS[name]
    network = TORSO.build(KEY, space)
    rows, obs = observations(space, 6)
    expected = in_numpy(network.mlp, np.stack([gymnasium.spaces.flatten(space, row) for row in rows]))
    assert network.features == 6
    assert len(np.unique(np.round(expected, 5), axis=0)) > 1  # the observations differ
    folded = apply(network, jax.tree.map(lambda x: x.reshape((2, 3, *x.shape[1:])), obs))
    np.testing.assert_allclose(folded, expected.reshape(2, 3, 6), rtol=1e-4, atol=1e-5)
    if name in ("nested", "number", "discrete"):
        single = apply(network, jax.tree.map(lambda x: x[0], obs))
        np.testing.assert_allclose(single, expected[0], rtol=1e-4, atol=1e-5)


def test_network_reads_dicts_in_jax_order_whatever_theirs():
    parts = {"b": Box(-1, 1, (2,)), "a": Discrete(3)}
    network = TORSO.build(KEY, Dict(OrderedDict(parts)))
    rows, obs = observations(Dict(parts), 4)
    expected = np.stack([np.concatenate([np.eye(3)[row["a"]], row["b"]]) for row in rows])
    np.testing.assert_allclose(network(obs), in_numpy(network.mlp, expected), rtol=1e-4, atol=1e-5)


def test_network_with_images_and_an_extra_vector():
    space = Dict({"eye": Box(0, 255, (20, 23, 3), np.uint8), "arm": Box(-1, 1, (2,)), "tool": Discrete(3)})
    network = TORSO.build(KEY, space, extra=2)
    network = eqx.tree_at(lambda n: n.images, network, tuple(map(noisy, network.images)))
    rows, obs = observations(space, 3)
    extra = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    inputs = [
        np.concatenate([row["arm"], cnn_in_numpy(network.images[0], row["eye"]), np.eye(3)[row["tool"]], more])
        for row, more in zip(rows, extra)
    ]
    np.testing.assert_allclose(network(obs, extra), in_numpy(network.mlp, np.stack(inputs)), rtol=1e-3, atol=1e-4)


def test_network_of_an_image_alone_is_the_cnn():
    network = TORSO.build(KEY, Box(0, 255, (20, 23, 3), np.uint8))
    assert network.features == 512
    assert network.mlp.layers == ()
    np.testing.assert_array_equal(network(IMAGES), network.images[0](IMAGES))


def test_torso_check():
    check(TORSO)
    for bad in (Torso(widths=(0,)), Torso(activation="swish"), Torso(widths=[3]), Torso(widths=(3.0,))):
        with pytest.raises(ConfigError, match=r"Torso\.(widths|activation)"):
            check(bad)


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
