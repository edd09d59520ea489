"""Random shifts of pictures against NumPy's padding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thorndike.ops.augment import Shift


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
