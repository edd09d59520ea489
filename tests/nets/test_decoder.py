"""Observations from features: shapes of every space, pictures that are learned, and the doubling of sides by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from thorndike.nets.convolution import convolved, unfolded
from thorndike.nets.decoder import Decoder, Painting, smaller
from thorndike.ops.twohot import symlog

KEY = jax.random.key(0)
PARTS = Dict({
    "a": Box(-1, 1, (2, 2)), "b": Discrete(2), "c": MultiBinary(2), "d": MultiDiscrete([2, 3]),
    "eye": Box(0, 255, (3, 11, 8), np.uint8),
})  # fmt: skip


def test_all_kinds_of_observations():
    """The loss is 0 where the decoder says what is there: symlog of numbers, one-hot vectors, pixels in [0, 1]."""
    decoder = Decoder(KEY, 5, PARTS, 8, 1, 4)
    obs = jax.tree.map(lambda *x: jnp.stack(x), *(PARTS.sample() for _ in range(6)))
    loss = decoder.loss(jnp.ones((6, 5)), obs)
    assert loss.shape == (6,)
    one_hot = [np.eye(2)[np.asarray(obs["b"])], *(np.eye(n)[np.asarray(obs["d"])[:, i]] for i, n in enumerate((2, 3)))]
    numbers = [np.asarray(obs["a"]).reshape(6, -1), one_hot[0], np.asarray(obs["c"]), *one_hot[1:]]
    numbers = np.asarray(symlog(jnp.asarray(np.concatenate(numbers, -1))))
    pixels = np.asarray(obs["eye"]).transpose(0, 2, 3, 1) / 255
    said, drawn = np.asarray(decoder.vector(jnp.ones((6, 5)))), np.asarray(decoder.images[0](jnp.ones((6, 5))))
    expected = ((said - numbers) ** 2).sum(-1) + ((drawn - pixels) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(10, 10, 4), (3, 21, 33), (16, 20), (2, 3, 12, 8), (6, 6, 1)])
def test_images_of_every_shape(shape):
    space = Box(0, 255, shape, np.uint8)
    obs = jnp.asarray(space.sample())[None]
    decoder = Decoder(KEY, 5, space, 8, 1, 4)
    assert decoder.vector is None
    assert np.isfinite(decoder.loss(jnp.ones((1, 5)), obs)).all()


def test_convolutions_are_those_of_xla():
    painting, x = Painting(KEY, 5, (13, 9, 3), 4), jax.random.normal(KEY, (3, 5))
    np.testing.assert_allclose(painting.drawn(x, unfolded), painting.drawn(x, convolved), atol=1e-5)


def test_a_picture_for_each_feature_is_learned():
    """Each pixel has its own place: pictures that differ in single pixels are told apart."""
    space = Box(0, 1, (10, 10, 2))
    pictures = jnp.float32(np.random.default_rng(0).random((4, 10, 10, 2)) < 0.3)
    features = jnp.eye(4)

    def step(decoder, _):
        loss, gradient = jax.value_and_grad(lambda d: d.loss(features, pictures).mean())(decoder)
        return jax.tree.map(lambda x, g: x - 0.01 * g, decoder, gradient), loss

    losses = np.asarray(jax.jit(lambda d: jax.lax.scan(step, d, None, 300)[1])(Decoder(KEY, 4, space, 8, 1, 8)))
    mean = float(((pictures - pictures.mean(0)) ** 2).sum((1, 2, 3)).mean())  # of one picture for all
    assert losses[0] > 2 * losses[-1]
    assert losses[-1] < 0.2 * mean


def test_floats_are_made_small():
    space = Dict({"a": Box(-np.inf, np.inf, (2,)), "eye": Box(0, 1, (4, 4, 1)), "n": Discrete(3)})
    obs = {"a": jnp.float32([100.0, -1.0]), "eye": jnp.ones((4, 4, 1)), "n": jnp.int32(2)}
    seen = smaller(space, obs)
    np.testing.assert_allclose(seen["a"], [np.log(101), -np.log(2)], rtol=1e-6)
    assert (seen["eye"] == 1).all()
    assert seen["n"] == 2
