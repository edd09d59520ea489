"""Random shifts, crops and colours of pictures, against NumPy and Pillow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from thorndike.ops import augment
from thorndike.ops.augment import ColourJitter, Crop, Shift


@pytest.mark.parametrize("shape", [(9, 8, 2), (2, 9, 8), (3, 9, 8, 2), (3, 2, 9, 8)])
def test_each_picture_is_a_crop_of_itself_with_repeated_edges(shape):
    """[H, W, C], [C, H, W] and stacks of them; every shift comes, and frames of a stack move together."""
    x = np.random.default_rng(0).integers(0, 255, (40, *shape)).astype(np.uint8)
    got = np.asarray(Shift(pixels=2)(jax.random.key(0), jnp.asarray(x)[None], axes=2))[0]
    assert got.dtype == x.dtype
    first = shape[-3] == 2
    last = lambda x: np.moveaxis(x, -3, -1) if first else x  # noqa: E731
    seen = set()
    for before, after in zip(last(x), last(got)):
        padded = np.pad(before, [(0, 0)] * (before.ndim - 3) + [(2, 2), (2, 2), (0, 0)], mode="edge")
        crops = {(i, j): padded[..., i : i + 9, j : j + 8, :] for i in range(5) for j in range(5)}
        match = [at for at, crop in crops.items() if np.array_equal(crop, after)]
        assert len(match) == 1
        seen.add(match[0])
    assert len(seen) > 12
    assert {i for i, _ in seen} == {j for _, j in seen} == set(range(5))


def test_what_is_no_picture_stays():
    obs = {
        "speed": jnp.ones((1, 4, 3)),
        "table": jnp.ones((1, 4, 5, 6)),
        "picture": jnp.arange(4 * 5 * 6.0).reshape(1, 1, 4, 5, 6),
    }
    got = Shift(pixels=2)(jax.random.key(1), obs, axes=2)
    assert got["speed"] is obs["speed"]
    assert got["table"] is obs["table"]


SHAPES = [(9, 8, 3), (3, 9, 8), (2, 9, 8, 3), (2, 3, 9, 8)]  # last and first channels, and stacks of two frames


def changed(change, x, shape):
    """Pictures [N, frames, 9, 8, 3] as another shape has them, changed, and back."""
    first = shape[-3] == 3
    laid = (np.moveaxis(x, -1, -3) if first else x)[:, : len(shape) - 2]
    got = np.asarray(change(jax.random.key(0), jnp.asarray(laid.reshape(-1, *shape))[None], axes=2))[0]
    assert got.dtype == x.dtype
    assert got.shape == (len(x), *shape)
    got = got.reshape(laid.shape)
    return np.moveaxis(got, -3, -1) if first else got


def pictures(dtype, frames, low=60, high=120):
    return np.random.default_rng(0).integers(low, high, (40, frames, 9, 8, 3)).astype(dtype)


def check_windows():
    """Windows of any size at any place are those that Pillow draws up by nearest pixels."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (9, 8)).astype(np.uint8)
    for place, share in rng.random((60, 2)):
        rows, columns = (augment.window(np.float32([[place]]), np.float32([[share]]), n) for n in x.shape)
        left, top = place * (1 - share) * 8, place * (1 - share) * 9
        box = (left, top, left + share * 8, top + share * 9)
        expected = np.asarray(Image.fromarray(x).resize((8, 9), Image.Resampling.NEAREST, box=box))
        np.testing.assert_array_equal(augment.picked(jnp.asarray(x)[None], rows, columns)[0], expected)


def test_windows_are_drawn_up_as_pillow_does():
    check_windows()


def test_windows_from_their_corners_are_noticed(monkeypatch):
    """Pixels by their corners in the place of their middles."""
    wrong = lambda place, share, n: jnp.floor(place * (1 - share) * n + jnp.arange(n) * share).astype(int)  # noqa: E731
    monkeypatch.setattr(augment, "window", wrong)
    with pytest.raises(AssertionError):
        check_windows()


@pytest.mark.parametrize("shape", SHAPES)
def test_each_picture_has_a_window_of_its_own(shape):
    """Pixels that say where they are: rows and columns in order, of about the same share of both sides; frames of a
    stack have the same ones; with windows of the whole nothing changes."""
    frames = shape[0] if len(shape) == 4 else 1
    where = np.arange(72, dtype=np.uint8).reshape(9, 8, 1).repeat(3, -1)
    x = np.broadcast_to(where, (40, frames, 9, 8, 3))
    got = changed(Crop(least=0.5), x, shape)
    rows, columns = got[:, 0, :, 0, 0] // 8, got[:, 0, 0, :, 0] % 8
    expected = 8 * rows[:, None, :, None, None] + columns[:, None, None, :, None]
    np.testing.assert_array_equal(got, np.broadcast_to(expected, got.shape))
    high, wide = (np.ptp(of.astype(int), axis=1) + 1 for of in (rows, columns))
    assert (np.abs(high / 9 - wide / 8) < 0.26).all()
    assert high.min() <= 6
    assert high.max() >= 8
    assert len({(*r, *c) for r, c in zip(rows, columns)}) > 20
    assert {0} < set(rows[:, 0])
    np.testing.assert_array_equal(changed(Crop(least=1.0), x, shape), x)


NONE = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
AROUND = {  # what stays, [N, ...]
    "brightness": lambda x: np.zeros_like(x),
    "contrast": lambda x: x.mean((1, 2, 3, 4), keepdims=True) + np.zeros_like(x),
    "saturation": lambda x: x.mean(-1, keepdims=True) + np.zeros_like(x),
}


def check_colours(part, shape):
    """What lies around a middle is times one number for each picture, between 0.6 and 1.4, another one for each."""
    x = pictures(np.float32, shape[0] if len(shape) == 4 else 1)
    got = changed(ColourJitter(**{**NONE, part: 0.4}), x, shape)
    middle = AROUND[part](x)
    np.testing.assert_allclose(AROUND[part](got), middle, atol=1e-3)
    factor = ((got - middle) * (x - middle)).sum((1, 2, 3, 4)) / ((x - middle) ** 2).sum((1, 2, 3, 4))
    np.testing.assert_allclose(got - middle, factor[:, None, None, None, None] * (x - middle), atol=1e-3)
    assert 0.6 <= factor.min() < 0.75
    assert 1.25 < factor.max() <= 1.4
    assert len(np.unique(factor)) == len(x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("part", NONE)
def test_colours(part, shape):
    check_colours(part, shape)


def test_one_draw_for_all_pictures_is_noticed(monkeypatch):
    uniform = jax.random.uniform
    alike = lambda key, shape, **of: jnp.broadcast_to(uniform(key, shape, **of)[:1], shape)  # noqa: E731
    monkeypatch.setattr(jax.random, "uniform", alike)
    for part in NONE:
        with pytest.raises(AssertionError):
            check_colours(part, SHAPES[0])


def test_colours_of_whole_numbers_are_rounded_and_cut():
    x = pictures(np.uint8, 1, 100, 255)
    exact = changed(ColourJitter(), x.astype(np.float32), SHAPES[0])
    assert exact.max() > 256
    np.testing.assert_array_equal(changed(ColourJitter(), x, SHAPES[0]), np.clip(np.round(exact), 0, 255))


def test_bools_and_single_channels():
    """Pictures of bools stay; without three channels there is no saturation."""
    bits = jnp.asarray(np.random.default_rng(0).random((1, 5, 9, 8, 4)) < 0.5)
    np.testing.assert_array_equal(ColourJitter()(jax.random.key(0), bits, axes=2), bits)
    grey = jnp.asarray(np.random.default_rng(0).random((1, 5, 9, 8, 2)), jnp.float32)
    np.testing.assert_allclose(
        ColourJitter(**{**NONE, "saturation": 1.0})(jax.random.key(0), grey, axes=2), grey, atol=1e-6
    )
