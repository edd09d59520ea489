"""Gradient steps against plain optax and the textbook."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thorndike.ops import optimise
from thorndike.ops.optimise import Adam, LaProp, begin, clip_each, descend, polyak

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.1, -0.3])}


def loss(params):
    return (params["w"] ** 4).sum() + ((params["b"] - 1) ** 2).sum()


def trajectory(optimiser, steps: int = 6):
    params, state, norms = PARAMS, begin(optimiser, PARAMS), []
    step = jax.jit(lambda params, state: descend(optimiser, jax.grad(loss)(params), state, params))
    for _ in range(steps):
        params, state, metrics = step(params, state)
        norms.append({name: float(value) for name, value in metrics.items()})
    return params, norms


@pytest.mark.parametrize("large", [1, 3, 100], ids=["each alone", "some alone", "one vector"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_adam_is_the_textbook(clip, large, monkeypatch):
    """Kingma & Ba 2015, algorithm 1, in double precision; whichever parameters share a vector."""
    monkeypatch.setattr(optimise, "LARGE", large)
    got, norms = trajectory(Adam(eps=1e-5).build(0.05, clip))
    x = np.concatenate([np.ravel(PARAMS["w"]), PARAMS["b"]]).astype(float)
    m = v = np.zeros(6)
    for t in range(1, 7):
        gradient = np.concatenate([4 * x[:4] ** 3, 2 * (x[4:] - 1)])
        norm = np.linalg.norm(gradient)
        assert norms[t - 1]["gradient_norm"] == pytest.approx(norm, rel=1e-4)  # before clipping
        g = gradient if clip is None else gradient * min(1, clip / norm)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = -0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-5)
        assert norms[t - 1]["update_norm"] == pytest.approx(np.linalg.norm(step), rel=1e-3)
        x = x + step
    np.testing.assert_allclose(np.concatenate([np.ravel(got["w"]), got["b"]]), x, rtol=1e-4, atol=1e-5)


def test_descend_is_plain_optax():
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.05))
    params, state = PARAMS, optimiser.init(PARAMS)

    @jax.jit
    def step(params, state):
        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(6):
        params, state = step(params, state)
    close = partial(np.testing.assert_allclose, atol=1e-6)  # the norm of one vector is summed in another order
    jax.tree.map(close, trajectory(Adam().build(0.05, 0.5))[0], params)


def test_a_soft_copy_with_tau_1_is_a_copy():
    """To the bit: t + τ (o - t) would round."""
    online = jax.tree.map(lambda x: jnp.exp(3 * x) + 0.3, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, polyak(PARAMS, online, 1.0), online)


def test_laprop_divides_first_and_averages_then():
    """m <- β₁ m + (1 - β₁) g / √v, in NumPy; Adam, which averages first, goes elsewhere."""
    got, x = trajectory(LaProp(eps=1e-8).build(0.05))[0], np.array([1.0, -2.0, 0.5, 3.0, 0.1, -0.3])
    m, v = np.zeros(6), np.zeros(6)
    for t in range(1, 7):
        g = np.concatenate([4 * x[:4] ** 3, 2 * (x[4:] - 1)])
        v = 0.999 * v + 0.001 * g**2
        m = 0.9 * m + 0.1 * g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        x = x - 0.05 * m / (1 - 0.9**t)
    flat = lambda params: np.concatenate([np.ravel(params["w"]), params["b"]])  # noqa: E731
    np.testing.assert_allclose(flat(got), x, rtol=1e-4, atol=1e-5)
    assert np.abs(flat(trajectory(Adam().build(0.05))[0]) - x).max() > 1e-4


def test_each_array_is_clipped_by_its_own_norm():
    gradient = {"w": 10.0 * PARAMS["w"], "b": jnp.array([0.01, 0.0])}
    clipped = clip_each(gradient, PARAMS, 0.3)
    np.testing.assert_allclose(clipped["w"], 0.3 * PARAMS["w"], rtol=1e-5)
    np.testing.assert_array_equal(clipped["b"], gradient["b"])
    none = clip_each(gradient, jax.tree.map(jnp.zeros_like, PARAMS), 0.3)
    assert float(jnp.linalg.norm(none["w"])) == pytest.approx(3e-4, rel=1e-4)
