"""Running statistics against NumPy on everything that was seen, in one piece."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple

from thorndike.nets.torso import example
from thorndike.ops.statistics import Running, normalise_tree, running, running_tree, update_tree

update = jax.jit(Running.update)


def batches(seed: int, offset: float, scale: float) -> list[np.ndarray]:
    """Uneven batches whose mean and spread drift; leading axes [T, E] or [B]."""
    rng = np.random.default_rng(seed)
    sizes = [(4, 6), (1, 1), (4, 6), (7,), (4, 6)]
    return [(offset + i + scale * (i + 1) * rng.normal(size=(*n, 3))).astype(np.float32) for i, n in enumerate(sizes)]


def check_running(update, offset: float, scale: float) -> None:
    statistics, seen = running((3,)), np.zeros((0, 3))
    for batch in batches(0, offset, scale):
        statistics = update(statistics, batch)
        seen = np.concatenate([seen, batch.reshape(-1, 3).astype(float)])
        np.testing.assert_allclose(statistics.mean, seen.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(statistics.var, seen.var(0), rtol=2e-3)
        assert statistics.count == len(seen)


@pytest.mark.parametrize(
    ("mean", "spread"), [(60_000, 1), (5e6, 10), (0, 1e-6), (1, 1e-3), (1e-6, 1e-6), (-3e-4, 2e-5)]
)
def test_large_means_and_tiny_spreads(mean, spread):
    """The sign of the deviation is told apart in units of the spread."""
    x = np.float32(mean + spread * np.random.default_rng(0).normal(size=(4000, 1)))
    statistics = running((1,))
    for batch in np.split(x, 4):
        statistics = update(statistics, batch)
    assert float(statistics.std[0]) == pytest.approx(float(x.astype(float).std()), rel=0.05)


@pytest.mark.parametrize("value", [0.0, 3.0, -7e6])
def test_constants_are_not_blown_up(value):
    statistics = update(running(), np.full((50,), value, np.float32))
    assert float(statistics.std) == 1.0
    assert abs(float(statistics.normalise(jnp.float32(np.nextafter(np.float32(value), np.float32(9e9)))))) <= 1


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (-3.0, 0.1), (1000.0, 1.0)])
def test_running_equals_numpy(offset, scale):
    check_running(update, offset, scale)


def test_running_scalar_and_images():
    x = np.random.default_rng(2).normal(4, 2, (5, 8)).astype(np.float32)
    statistics = update(running(), x)
    assert float(statistics.mean) == pytest.approx(x.mean(), rel=1e-4)
    assert float(statistics.var) == pytest.approx(x.var(), rel=1e-3)
    pixels = np.random.default_rng(3).integers(0, 256, (6, 2, 2), np.uint8)
    statistics = update(running((2, 2)), pixels)
    np.testing.assert_allclose(statistics.var, pixels.astype(float).var(0), rtol=1e-2)


def test_normalise():
    x = np.random.default_rng(4).normal(7, 3, (400, 3)).astype(np.float32)
    statistics = update(running((3,)), x)
    got = np.asarray(statistics.normalise(x))
    np.testing.assert_allclose(got, (x - x.mean(0)) / x.std(0), rtol=1e-3, atol=1e-3)
    assert np.abs(statistics.normalise(x * 1e4)).max() == 10
    assert np.abs(statistics.normalise(x, clip=0.5)).max() == 0.5
    constant = update(running(), np.full((50,), 3.0, np.float32))
    assert np.isfinite(constant.normalise(jnp.float32(3.0)))


MIXED = Dict(
    {
        "position": Box(-9, 9, (2,)),
        "room": Discrete(5),
        "picture": Box(0, 255, (4, 4, 1), np.uint8),
        "inner": Tuple((Box(-1, 1, (), np.float64), MultiBinary(3), Dict({"speed": Box(0, 1, (2, 2))}))),
    }
)


def sampled(space, n: int) -> dict:
    space.seed(0)
    rows = [space.sample() for _ in range(n)]
    return jax.tree.map(lambda like, *xs: np.stack(xs).astype(like.dtype), example(space), *rows)


def test_trees_normalise_floats_and_nothing_else():
    obs = sampled(MIXED, 60)
    empty = running_tree(example(MIXED))
    assert empty["room"] == empty["picture"] == empty["inner"][1] == ()
    statistics = jax.jit(update_tree)(empty, obs)
    assert jax.tree.structure(statistics) == jax.tree.structure(empty)
    assert [x.dtype for x in jax.tree.leaves(statistics)] == [x.dtype for x in jax.tree.leaves(empty)]
    got = jax.jit(normalise_tree)(statistics, obs)
    for name in ("room", "picture"):
        np.testing.assert_array_equal(got[name], obs[name])
        assert got[name].dtype == obs[name].dtype
    np.testing.assert_array_equal(got["inner"][1], obs["inner"][1])
    floats = [(got["position"], obs["position"]), (got["inner"][0], obs["inner"][0])]
    for normal, x in [*floats, (got["inner"][2]["speed"], obs["inner"][2]["speed"])]:
        np.testing.assert_allclose(normal, (x - x.mean(0)) / x.std(0), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("space", [Discrete(4), Box(-2, 2, (3,)), Tuple((Discrete(3), Box(-1, 1, (1,))))])
def test_trees_of_simple_observations(space):
    obs = sampled(space, 30)
    statistics = update_tree(running_tree(example(space)), obs)
    for normal, x in zip(jax.tree.leaves(normalise_tree(statistics, obs)), jax.tree.leaves(obs)):
        if np.issubdtype(x.dtype, np.floating):
            np.testing.assert_allclose(normal, (x - x.mean(0)) / x.std(0), rtol=1e-2, atol=1e-2)
        else:
            np.testing.assert_array_equal(normal, x)
