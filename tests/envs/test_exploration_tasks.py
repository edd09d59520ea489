"""Deep sea and the river: what they pay by the book, and their models against what they do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.envs.grid.deep_sea import rights


def optimum(env, discount, sweeps=3000):
    """V* by value iteration over the model."""
    p, r, terminal = env.transitions()
    value = np.zeros(len(p))
    for _ in range(sweeps):
        value = np.where(terminal, 0.0, (r + discount * p @ value).max(1))
    return value


def test_the_best_dive_earns_099():
    env, total = td.DeepSea(size=7, seed=3), 0.0
    now = env.reset(jax.random.key(0))
    for row in range(7):
        assert not now.terminated
        assert int(now.obs) == row * 8
        now = env.step(now.state, jnp.int32(rights(7, 3)[int(now.obs)]), None)
        total += float(now.reward)
    assert now.terminated
    assert now.info["success"]
    assert total == pytest.approx(0.99)
    assert optimum(env, 1.0, 10)[0] == pytest.approx(0.99)
    assert 0.2 < rights(7, 3).mean() < 0.8


def test_the_river_flows_left():
    """Strehl & Littman: swimming right all along is best at γ = 0.95, by far."""
    env = td.RiverSwim()
    p, r, _ = env.transitions()
    value = optimum(env, 0.95)
    assert ((r + 0.95 * p @ value).argmax(1) == 1).all()
    lazy = 0.0005 / 0.05
    assert value[1] > 20 * lazy


@pytest.mark.parametrize("env", [td.DeepSea(size=4), td.RiverSwim()], ids=["deep sea", "river"])
def test_models_are_what_happens(env):
    """Frequencies of 4,000 steps from every state, and mean rewards, against P and R."""
    p, r, terminal = env.transitions()
    np.testing.assert_allclose(p.sum(-1), 1.0)
    state_of = type(env.reset(jax.random.key(0)).state)
    n = 4000 if isinstance(env, td.RiverSwim) else 10
    keys = jax.random.split(jax.random.key(1), n)
    step = jax.jit(jax.vmap(lambda key, s, a: env.step(state_of(s), a, key), (0, None, None)))
    for s in np.flatnonzero(~terminal):
        for a in range(2):
            done = step(keys, jnp.int32(s), jnp.int32(a))
            frequency = np.bincount(np.asarray(done.obs), minlength=len(p)) / n
            assert np.abs(frequency - p[s, a]).max() < 5 * 0.5 / np.sqrt(n) * (n > 100) + 1e-6
            assert abs(float(jnp.mean(done.reward)) - r[s, a]) < 5 * 0.5 / np.sqrt(n) * (n > 100) + 1e-6
            assert (np.asarray(done.terminated) == terminal[np.asarray(done.obs)]).all()
