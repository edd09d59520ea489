"""Images: which arrays are read as such, how they are scaled, and convolutions against SciPy's."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from nets.oracles import convolution_in_scipy, convolutions_in_scipy, count, pooled_in_numpy, with_biases
from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.nets import cnn
from thorndike.nets.cnn import Images, ImpalaCNN, NatureCNN, ResidualCNN, SmallCNN, channels_first, is_image
from thorndike.nets.convolution import Convolution, convolved, halved, in_parts, unfolded
from thorndike.nets.observations import Numbers
from thorndike.nets.torso import Torso

KEY = jax.random.key(0, impl="rbg")
INF, BYTE = np.inf, {"low": 0, "high": 255, "dtype": np.uint8}

# --- which spaces are images, and how they are scaled -----------------------------------------------------------------

MIXED = np.stack([np.zeros((6, 6)), np.full((6, 6), -5)], -1)
SPACES = {  # space: whether it is convolved; the highest and the lowest allowed number, and what the network sees
    "colours": (Box(0, 255, (84, 84, 3), np.uint8), True, (0, 255), (0, 1)),
    "channels first": (Box(0, 255, (3, 84, 84), np.uint8), True, (0, 255), (0, 1)),
    "zeros and ones in bytes": (Box(0, 1, (16, 16, 3), np.uint8), True, (0, 1), (0, 1)),
    "MiniGrid's ids": (Box(0, 10, (7, 7, 3), np.uint8), True, (0, 10), (0, 1)),
    "grey": (Box(0, 255, (84, 84), np.uint8), True, (0, 255), (0, 1)),
    "grey, stacked": (Box(0, 255, (4, 84, 84), np.uint8), True, (0, 255), (0, 1)),
    "colours, stacked": (Box(0, 255, (4, 84, 84, 3), np.uint8), True, (0, 255), (0, 1)),
    "depth in 16 bits": (Box(0, 65_535, (64, 64, 1), np.uint16), True, (0, 65_535), (0, 1)),
    "signed": (Box(-1, 1, (8, 8, 2), np.int8), True, (-1, 1), (0, 1)),
    "floats to 255": (Box(0, 255, (64, 64, 3)), True, (0, 255), (0, 1)),
    "floats to 1": (Box(0, 1, (64, 64, 3)), True, (0, 1), (0, 1)),
    "floats around 0": (Box(-1, 1, (64, 64, 3)), True, (-1, 1), (0, 1)),
    "floats without bounds": (Box(-INF, INF, (10, 10, 4)), True, (-7, 7), (-7, 7)),
    "half a bound": (Box(0, INF, (10, 10, 4)), True, (0, 7), (0, 7)),
    "planes of bits": (MultiBinary((10, 10, 4)), True, (0, 1), (0, 1)),
    "a board": (MultiBinary((3, 3, 2)), True, (0, 1), (0, 1)),
    "bools": (Box(0, 1, (9, 9, 2), np.bool_), True, (0, 1), (0, 1)),
    "grey floats": (Box(0, 1, (32, 32)), True, (0, 1), (0, 1)),
    "bits of a map": (MultiBinary((20, 30)), True, (0, 1), (0, 1)),
    "kinematics": (Box(-INF, INF, (5, 5)), False, (-3, 3), (-3, 3)),
    "kinematics with bounds": (Box(-1, 1, (15, 7)), False, (-1, 1), (-1, 1)),
    "two by two": (Box(0, 1, (2, 2)), False, (0, 1), (0, 1)),
    "a window of time": (Box(-INF, INF, (60, 20)), False, (-3, 3), (-3, 3)),
    "a table": (Box(np.tile(np.arange(-20, 0), (20, 1)), np.ones((20, 20)), dtype=np.float32), False, (1, 1), (1, 1)),
    "thin": (Box(0, 255, (2, 84, 2), np.uint8), False, (0, 255), (0, 1)),
    "five axes": (Box(0, 1, (2, 2, 8, 8, 3)), False, (0, 1), (0, 1)),
    "a vector": (Box(-3, 9, (6,)), False, (-3, 9), (-3, 9)),
    "RAM": (Box(0, 255, (128,), np.uint8), False, (0, 255), (0, 1)),
    "counts": (Box(5, 15, (4,), np.int64), False, (5, 15), (0, 1)),
    "one number": (Box(0, 8, (), np.int32), False, (0, 8), (0, 1)),
    "whole numbers without bounds": (Box(-INF, INF, (4,), np.int32), False, (-9, 9), (-9, 9)),
    "whole numbers from 0": (Box(0, INF, (4,), np.int64), False, (0, 9), (0, 9)),
    "short ones from 0": (Box(0, INF, (4,), np.int16), False, (0, 9), (0, 9)),
    "as much as 32 bits hold": (Box(0, 2**32 - 1, (4,), np.uint32), False, (0, 9), (0, 9)),
    "of no width": (Box(4, 4, (3,), np.int32), False, (4, 4), (4, 4)),
    "bits": (MultiBinary(7), False, (0, 1), (0, 1)),
}


@pytest.mark.parametrize("name", SPACES)
def test_what_is_seen_of_a_space(name):
    """What reaches the first convolution, or the dense layers."""
    space, image, ends, seen = SPACES[name]
    assert is_image(space) == image
    encoder, flat = (Torso(images=images).encoder(KEY, "", space) for images in ("small", "none"))
    assert isinstance(encoder, Images if image else Numbers)
    assert isinstance(flat, Numbers)
    for value, expected in zip(ends, seen):
        x = jnp.full((2, *space.shape), value, jnp.dtype(np.dtype(space.dtype).name.replace("64", "32")))
        np.testing.assert_allclose(flat(x), np.full((2, int(np.prod(space.shape))), expected), rtol=1e-6)
        if image:
            pixels = encoder.seen.whole(lambda x, convolve: x, x)
            np.testing.assert_allclose(pixels, np.full(pixels.shape, expected), rtol=1e-6)
            assert pixels.size == x.size


def test_numbers_and_channels_have_bounds_of_their_own():
    low, high = np.array([0, -2, 0, -INF]), np.array([10, 2, INF, 3])
    whole = Box(np.array([0, -2, 0]), np.array([10, 2, 4]), dtype=np.int32)
    np.testing.assert_allclose(Numbers(whole)(jnp.array([[5, 1, 4], [0, -2, 1]])), [[0.5, 0.75, 1], [0, 0, 0.25]])
    part = Numbers(Box(low.astype(np.float32), high.astype(np.float32)), floats=True)
    np.testing.assert_allclose(part(jnp.array([5.0, 1.0, 7.0, -7.0])), [0.5, 0.75, 7, -7])

    channels = [np.broadcast_to(np.array(end), (5, 6, 2)) for end in ([0, -1], [10, 1])]
    pixels = jnp.broadcast_to(jnp.array([5, 0], jnp.int8), (1, 5, 6, 2))
    for shape, axes in [((5, 6, 2), (0, 1, 2, 3)), ((2, 5, 6), (0, 3, 1, 2))]:
        space = Box(*(np.moveaxis(end, -1, 0) if shape[0] == 2 else end for end in channels), dtype=np.int8)
        seen = Images(with_biases(SmallCNN().build(KEY, space, "he").network), space).seen
        out = seen.whole(lambda x, convolve: x, pixels.transpose(axes)).reshape(5, 6, 2)
        np.testing.assert_allclose(out, np.full((5, 6, 2), 0.5))


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((84, 84, 3), False), ((3, 84, 84), True), ((1, 210, 160), True), ((210, 160, 3), False), ((4, 84, 84), True),
        ((10, 10, 10), False), ((9, 9, 17), False), ((6, 7, 2), False), ((2, 8, 9), True), ((4, 5, 26), False),
    ],
)  # fmt: skip
def test_where_the_channels_are(shape, first):
    """(4, 5, 26): Overcooked's kitchen of 4 x 5 in 26 planes, not 4 planes of 5 x 26."""
    assert channels_first(shape) == first


def test_frames_of_a_stack_are_channels():
    """Of [T, H, W, C] and [T, C, H, W] the network sees the same, frame behind frame."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7, 2), np.uint8)
    expected = np.concatenate([frames[:, t] for t in range(3)], -1)
    np.testing.assert_array_equal(cnn.arranged(frames), expected)
    first = np.moveaxis(np.pad(frames, [(0, 0)] * 2 + [(0, 4)] * 2 + [(0, 0)]), -1, 2)
    assert first.shape == (2, 3, 2, 9, 11)
    np.testing.assert_array_equal(cnn.arranged(first)[:, :5, :7], expected)
    assert cnn.sides((3, 5, 7, 2)) == (5, 7, 6)
    assert cnn.sides((3, 2, 9, 11)) == (9, 11, 6)


def test_automatic_networks_and_the_switch():
    """The Nature network where its layers fit, a small one below, and none on demand; of every part of a Dict."""
    for side, kernel in [(36, (8, 8, 4, 32)), (35, (3, 3, 4, 16))]:
        encoder = Torso().encoder(KEY, "", Box(**BYTE, shape=(side, 40, 4)))
        assert encoder.network.layers[0].kernel.shape == kernel
    space = Dict({"eye": Box(**BYTE, shape=(10, 10, 3)), "arm": Tuple((Box(-1, 1, (2,)), MultiBinary((5, 5, 2))))})
    for images, expected in [("auto", [Numbers, Images, Images]), ("none", [Numbers] * 3)]:  # in the order of names
        assert [type(e) for e in Torso(images=images, widths=(4,)).build(KEY, space).encoders] == expected
    with pytest.raises(ConfigError, match="at most 16 images"):
        Torso().build(KEY, Tuple([Box(**BYTE, shape=(4, 4, 1))] * 17))


# --- convolutions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convolve", [convolved, unfolded])
@pytest.mark.parametrize(
    ("size", "strides", "same"),
    [((3, 3), (1, 1), True), ((3, 3), (1, 1), False), ((8, 8), (4, 4), False), ((4, 4), (2, 2), False),
     ((2, 5), (1, 2), False), ((1, 4), (1, 3), False), ((1, 1), (4, 4), False), ((5, 2), (7, 1), False)],
)  # fmt: skip
def test_convolutions_in_scipy(convolve, size, strides, same):
    layer = with_biases(Convolution(KEY, (*size, 3, 5), "he", strides, same))
    images = np.random.default_rng(0).normal(size=(2, 13, 11, 3))
    out = jax.jit(lambda layer, x: layer(x, convolve))(layer, jnp.asarray(images))
    expected = np.stack([convolution_in_scipy(layer, image) for image in images])
    assert out.shape == expected.shape
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(7, 8, 2), (8, 7, 1), (1, 2, 3), (84, 42, 1)])
def test_pooling_in_numpy(shape):
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    np.testing.assert_array_equal(halved(jnp.asarray(images)), np.stack([pooled_in_numpy(x) for x in images]))


NETWORKS = {
    "nature": (NatureCNN(), (44, 40, 2)),
    "nature, small image": (NatureCNN(), (10, 9, 2)),
    "small": (SmallCNN(channels=6), (7, 8, 3)),
    "impala": (ImpalaCNN(channels=(4, 6), blocks=2), (11, 10, 2)),
    "residual": (ResidualCNN(channels=5, blocks=3), (6, 7, 2)),
}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_in_scipy(name, first):
    config, (height, width, channels) = NETWORKS[name]
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, channels), np.uint8)
    space = Box(**BYTE, shape=(channels, height, width) if first else (height, width, channels))
    network = with_biases(config.build(jax.random.key(0), space, "he"))
    seen = jnp.asarray(np.moveaxis(images, -1, 1) if first else images)
    expected = np.stack([convolutions_in_scipy(network.network, image / 255) for image in images])
    assert network.features == expected.shape[1]
    out = jax.jit(lambda network, x: network(x[None]))(network, seen)
    np.testing.assert_allclose(out[0], expected, rtol=1e-4, atol=1e-4)
    elsewhere = jax.jit(lambda network, x: network.seen.whole(network.network, x))(network, seen)
    np.testing.assert_allclose(elsewhere, expected, rtol=1e-4, atol=1e-4)
    for bug in (seen[..., ::-1, :], seen[::-1], seen // 2):
        assert not np.allclose(network(bug), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("images", [1, 3, 4, 7])
def test_many_images_go_through_in_parts(images, monkeypatch):
    """Values and gradients are those of XLA's own convolutions on all of them."""
    monkeypatch.setattr(cnn, "in_parts", lambda f, x, most: in_parts(f, x, 3))
    network = ImpalaCNN(channels=(3, 4), blocks=1).build(jax.random.key(0), Box(0, 1, (8, 9, 2)), "he")
    x = jax.random.uniform(jax.random.key(1), (images, 8, 9, 2))
    ways = {"parts": network.seen.in_parts, "whole": network.seen.whole}
    loss = {k: lambda n, x, f=f: jnp.tanh(f(n, x)).sum() for k, f in ways.items()}
    values = {k: jax.jit(jax.value_and_grad(f, (0, 1)))(network.network, x) for k, f in loss.items()}
    for a, b in zip(jax.tree.leaves(values["parts"]), jax.tree.leaves(values["whole"])):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert (np.abs(values["parts"][1][1]).sum((1, 2, 3)) > 0).all()  # every image has a gradient


def test_parts_bound_the_memory():
    """The gradient of 128 frames takes a fraction of the scratch memory that all at once take, by XLA's own measure."""
    space = Box(**BYTE, shape=(84, 84, 1))
    network = jax.eval_shape(lambda: ImpalaCNN(channels=(8,), blocks=1).build(KEY, space, "he"))
    x = jax.ShapeDtypeStruct((128, 84, 84, 1), jnp.uint8)

    def scratch(f):
        compiled = jax.jit(jax.grad(lambda n, x: jnp.tanh(f(n, x)).sum())).lower(network.network, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert scratch(network.seen.in_parts) < scratch(partial(network.seen.whole, convolve=unfolded)) / 3


def test_in_parts_keeps_order_and_rows():
    x = jnp.arange(10.0)[:, None]
    np.testing.assert_array_equal(in_parts(lambda x: x * 2, x, 4), x * 2)
    np.testing.assert_array_equal(in_parts(lambda x: x * 2, x, 100), x * 2)


@pytest.mark.parametrize(
    ("images", "shape", "features", "parameters"),
    [
        ("nature", (84, 84, 4), 3136, 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64),
        ("nature", (4, 84, 84), 3136, 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64),
        ("nature", (1, 210, 160), 22 * 16 * 64, 8 * 8 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64),
        ("nature", (10, 10, 4), 64, 8 * 8 * 4 * 32 + 32 + 32 * 64 + 64 + 64 * 64 + 64),
        ("small", (10, 10, 4), 8 * 8 * 16, 9 * 4 * 16 + 16),  # MinAtar's
        (
            "impala",
            (84, 84, 4),
            11 * 11 * 32,
            9 * (4 * 16 + 4 * 16 * 16 + 16 * 32 + 4 * 32 * 32 + 5 * 32 * 32) + 5 * 80,
        ),
        ("residual", (9, 9, 17), 9 * 9 * 64, 9 * (17 * 64 + 8 * 64 * 64) + 9 * 64),
    ],
)
def test_shapes_and_counts(images, shape, features, parameters):
    """Counted by hand; behind them 512 units by default, as in the Nature paper, or what is asked for."""
    space = Box(**BYTE, shape=shape)
    network = jax.eval_shape(lambda key: Torso(images=images).build(key, space), KEY)
    assert network.encoders[0].features == features
    assert count(network.encoders) == parameters
    assert (network.features, count(network.mlp)) == (512, features * 512 + 512)
    assert network.mlp.activation == "relu"
    deeper = jax.eval_shape(lambda key: Torso(images=images, widths=(7, 3), activation="elu").build(key, space, 2), KEY)
    assert count(deeper.mlp) == (features + 2) * 7 + 7 + 7 * 3 + 3
    assert (deeper.features, deeper.mlp.activation) == (3, "elu")
    bare = jax.eval_shape(lambda key: Torso(images=images, widths=()).build(key, space), KEY)
    assert (bare.features, bare.mlp.layers) == (features, ())
    out = jax.eval_shape(lambda n, x: n(x), network, jax.ShapeDtypeStruct((2, 3, *shape), np.uint8))
    assert (out.shape, out.dtype) == ((2, 3, 512), jnp.float32)


@pytest.mark.parametrize("init", ["orthogonal", "uniform", "he", "xavier"])
def test_kernels_are_initialised_as_said(init):
    """Entry layers by their scheme; the last layer of each residual block is smaller by the root of their number."""
    network = ResidualCNN(channels=32, blocks=4).build(KEY, Box(**BYTE, shape=(9, 9, 8)), init).network.stages[0]
    inputs = 9 * 32
    kernel = np.asarray(network.blocks[2][0].kernel).reshape(inputs, 32)
    second = np.asarray(network.blocks[1][1].kernel).reshape(inputs, 32)
    if init == "orthogonal":
        np.testing.assert_allclose(kernel.T @ kernel, 2 * np.eye(32), atol=1e-4)
        np.testing.assert_allclose(second.T @ second, 0.5 * np.eye(32), atol=1e-4)
    else:
        std = {"uniform": (1 / 3 / inputs) ** 0.5, "he": (2 / inputs) ** 0.5, "xavier": (2 / (2 * inputs)) ** 0.5}[init]
        assert kernel.std() == pytest.approx(std, rel=0.05)
        assert second.std() == pytest.approx(std / 2, rel=0.05)
    assert (network.entry.bias != 0).any() == (init == "uniform")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (SmallCNN(channels=0), "sizes of SmallCNN must be from 1"),
        (ImpalaCNN(channels=()), "names no stage"),
        (ImpalaCNN(blocks=0), "sizes of ImpalaCNN"),
        (ResidualCNN(blocks=5000), "sizes of ResidualCNN must be from 1 to 4096"),
    ],
)
def test_sizes_are_checked(config, text):
    with pytest.raises(ConfigError, match=text):
        check(config)


@pytest.mark.parametrize("space", [Discrete(3), Box(0, 1, (5,)), MultiDiscrete([2, 2]), Box(0, 1, (2, 9, 2))])
def test_what_is_no_image_is_refused(space):
    with pytest.raises(ConfigError, match="NatureCNN reads images"):
        NatureCNN().build(KEY, space, "he")
