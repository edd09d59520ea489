"""Fixed features and convolutions over one axis, against loops in NumPy and numbers worked out by hand."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary

from nets.oracles import convolution_in_scipy, with_biases
from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.nets.conv1d import Conv1D
from thorndike.nets.features import Fourier, Polynomial, TileCoding
from thorndike.nets.observations import normalised

KEY = jax.random.key(0)
LOW, HIGH = np.float32([-2, 0, 10]), np.float32([2, 1, 30])
SPACE = Box(LOW, HIGH)


def features(config, space, x):
    module = config.build(KEY, space, "he")
    out = jax.jit(lambda x: module(x))(jnp.asarray(x))
    assert out.shape == (*np.shape(x)[: np.ndim(x) - len(space.shape)], module.features)
    assert jax.tree.leaves(module) == []  # nothing is learned
    return np.asarray(out)


def samples(space, n=5):
    space.seed(1)
    return np.stack([space.sample() for _ in range(n)])


@pytest.mark.parametrize("order", [1, 3])
def test_polynomials(order):
    x = samples(Box(-2, 2, (3,)))
    expected = [
        [np.prod(row ** np.array(c)) for c in itertools.product(range(order + 1), repeat=3)] for row in x.astype(float)
    ]
    np.testing.assert_allclose(features(Polynomial(order=order), Box(-np.inf, np.inf, (3,)), x), expected, rtol=1e-4)
    assert features(Polynomial(), Box(0, 4, (2,), np.int32), [[2, 4]]).tolist() == [
        [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    ]


@pytest.mark.parametrize("order", [1, 4])
def test_fourier_basis(order):
    """Konidaris et al. 2011: cos(π c · s) of s in [0, 1]^d."""
    x = samples(SPACE)
    unit = (x.astype(float) - LOW) / (HIGH - LOW)
    c = list(itertools.product(range(order + 1), repeat=3))
    expected = np.array([[np.cos(np.pi * np.dot(ci, row)) for ci in c] for row in unit])
    np.testing.assert_allclose(features(Fourier(order=order), SPACE, x), expected, atol=1e-4)
    outside = features(Fourier(order=order), SPACE, np.stack([LOW - 5, HIGH + 5]))
    np.testing.assert_allclose(outside, features(Fourier(order=order), SPACE, np.stack([LOW, HIGH])), atol=1e-6)


def test_tiles_by_hand():
    """Two tilings of two tiles across [0, 1] x [0, 4]; the second is displaced by 1/2 and 3/2 of a tile, so 1/2, 1/2.

    (0.3, 1): tile units (0.6, 0.5). The first grid: tile (0, 0), the second (1.1, 1.0): tile (1, 1) of 3 x 3.
    (1.0, 4): (2, 2), and (2.5, 2.5): the last of both. (0, 0): (0, 0), and (0.5, 0.5): the first of both.
    """
    space = Box(np.float32([0, 0]), np.float32([1, 4]))
    out = features(TileCoding(tilings=2, tiles=2), space, np.float32([[0.3, 1.0], [1.0, 4.0], [0.0, 0.0]]))
    assert [np.flatnonzero(row).tolist() for row in out] == [[0, 9 + 4], [8, 9 + 8], [0, 9]]


def test_tiles_in_numpy():
    """Each tiling has one tile on, that of Sutton and Barto's displacement (1, 3, 5, ...) in steps of 1 / tilings."""
    tilings, tiles = 4, 3
    config, x = TileCoding(tilings=tilings, tiles=tiles), samples(SPACE, 50)
    out = features(config, SPACE, x).reshape(50, tilings, tiles + 1, tiles + 1, tiles + 1)
    for row, grid in zip(x.astype(float), out):
        for i in range(tilings):
            moved = [i * (2 * j + 1) / tilings for j in range(3)]
            at = [int((v - lo) / (hi - lo) * tiles + m % 1) for v, lo, hi, m in zip(row, LOW, HIGH, moved)]
            expected = np.zeros((tiles + 1,) * 3)
            expected[tuple(at)] = 1
            np.testing.assert_array_equal(grid[i], expected)


def test_near_states_share_tiles_and_far_ones_do_not():
    config, space = TileCoding(tilings=8, tiles=8), Box(0, 1, (2,))
    centre, near, far = features(config, space, np.float32([[0.5, 0.5], [0.52, 0.5], [0.8, 0.9]]))
    assert centre.sum() == 8
    assert 4 <= centre @ near < 8
    assert centre @ far == 0


@pytest.mark.parametrize("shape", [(40,), (40, 3), (5, 2)])
def test_conv1d_in_scipy(shape):
    config, space = Conv1D(channels=(4, 6), kernel=3, stride=1 if shape[0] == 5 else 2), Box(0, 8, shape)
    module = with_biases(config.build(KEY, space, "he"))
    x = samples(space, 4)
    expected = []
    for row in x.astype(float) / 8:
        image = row.reshape(1, shape[0], -1)
        for layer in module.layers:
            image = np.maximum(convolution_in_scipy(layer, image), 0)
        expected.append(image.ravel())
    out = jax.jit(lambda module, x: module(x))(module, x.reshape(2, 2, *shape))
    assert module.features == len(expected[0])
    np.testing.assert_allclose(out.reshape(4, -1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "space", "text"),
    [
        (Fourier(), Box(-np.inf, np.inf, (2,)), "Fourier needs numbers with finite bounds, and this is Box"),
        (TileCoding(), Box(np.float32([0, 0]), np.float32([1, np.inf])), "TileCoding needs numbers with finite bounds"),
        (Fourier(), normalised(SPACE), "normalize_observation leaves none"),
        (TileCoding(), Box(0, 2**31 - 1, (2,), np.int32), "TileCoding needs numbers with finite bounds"),
        (Fourier(), Discrete(4), "Fourier reads numbers, and this is Discrete"),
        (Polynomial(order=3), Box(0, 1, (9,)), "more than 65,536 features of 9 numbers"),
        (Fourier(order=10**9), Box(0, 1, (10**4,)), "more than 65,536 features"),
        (TileCoding(tilings=10**9), Box(0, 1, (1,)), "more than 65,536 features"),
        (Conv1D(), Discrete(4), r"Conv1D reads arrays \[N\] or \[N, C\], and this is Discrete"),
        (Conv1D(), Box(0, 1, (3, 3, 3)), "Conv1D reads arrays"),
        (Conv1D(), Box(0, 1, (6,)), "layer 2 is left 1"),
    ],
)
def test_what_cannot_be_read_is_said(config, space, text):
    with pytest.raises(ConfigError, match=text):
        config.build(KEY, space, "he")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (Polynomial(order=0), "Polynomial.order must be positive"),
        (Fourier(order=-1), "Fourier.order must be positive"),
        (TileCoding(tiles=0), "both must be positive"),
        (Conv1D(channels=()), "names no layer"),
        (Conv1D(kernel=0), "sizes of Conv1D must be from 1"),
    ],
)
def test_sizes_are_checked(config, text):
    with pytest.raises(ConfigError, match=text):
        check(config)


def test_bits_have_bounds():
    assert features(Fourier(order=1), MultiBinary(2), [[0, 1]]).round(5).tolist() == [[1, -1, 1, -1]]
