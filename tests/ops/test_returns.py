"""Returns and advantages: against definitions written as double loops, and against rlax."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from thorndike.ops.returns import discounted_sums, gae, td_target

T, E = 14, 6
COEFFICIENTS = [(0.9, 0.8), (0.99, 0.0), (0.95, 1.0), (1.0, 0.5)]


def experience(seed: int = 0) -> dict[str, np.ndarray]:
    """A window with terminations and truncations inside, at its end, in a row, and nowhere (the last column)."""
    rng = np.random.default_rng(seed)
    terminated = rng.random((T, E)) < 0.15
    truncated = (rng.random((T, E)) < 0.15) & ~terminated
    terminated[-1, 0], truncated[-1, 0], terminated[-1, 1], truncated[-1, 1] = True, False, False, True
    terminated[4:7, 2], truncated[4:7, 2] = [False, True, False], [True, False, True]
    terminated[:, -1] = truncated[:, -1] = False
    ended = terminated | truncated
    reward, value, after = rng.normal(size=(3, T, E))
    after[:-1] = np.where(ended[:-1], after[:-1], value[1:])  # within an episode V(s') is the next step's V(s)
    after = np.where(terminated, 1e6, after)  # what must never be read
    assert terminated[:-1].any()
    assert truncated[:-1].any()
    return {
        "reward": reward.astype(np.float32),
        "value": value.astype(np.float32),
        "next_value": after.astype(np.float32),
        "terminated": terminated,
        "ended": ended,
    }


def lambda_returns_by_definition(x: dict[str, np.ndarray], discount: float, trace: float) -> np.ndarray:
    """G^λ as the (1 - λ) λ^(n-1) mixture of n-step returns, the last of which takes the weight that is left."""
    returns = np.zeros((T, E))
    for t in range(T):
        for e in range(E):
            total, weight, rewards = 0.0, 1.0, 0.0
            for n in range(T - t):
                i = t + n
                rewards += discount**n * float(x["reward"][i, e])
                bootstrap = 0.0 if x["terminated"][i, e] else float(x["next_value"][i, e])
                n_step = rewards + discount ** (n + 1) * bootstrap
                if x["ended"][i, e] or i == T - 1:
                    total += weight * n_step
                    break
                total += weight * (1 - trace) * n_step
                weight *= trace
            returns[t, e] = total
    return returns


@jax.jit
def reference(reward, value, next_value, terminated, ended, discount, trace):
    """rlax knows no truncation: there the bootstrap is moved into the reward, and the discount is 0."""
    bootstrap = jnp.where(terminated, 0.0, next_value)
    reward = jnp.where(ended, reward + discount * bootstrap, reward)
    values = jnp.concatenate([value, next_value[-1:]])
    one = partial(rlax.truncated_generalized_advantage_estimation, lambda_=trace)
    return jax.vmap(lambda r, d, v: one(r, d, values=v), 1, 1)(reward, discount * (1.0 - ended), values)


def check_gae(estimate) -> None:
    x = experience()
    for discount, trace in COEFFICIENTS:
        expected = lambda_returns_by_definition(x, discount, trace) - x["value"]
        np.testing.assert_allclose(estimate(*x.values(), discount, trace), expected, rtol=2e-5, atol=2e-5)


compiled = jax.jit(gae)


def test_gae_is_the_mixture_of_n_step_returns():
    check_gae(compiled)


@pytest.mark.parametrize("seed", range(3))
def test_gae_equals_rlax(seed):
    x = experience(seed)
    for discount, trace in COEFFICIENTS:
        expected = reference(*x.values(), discount, trace)
        np.testing.assert_allclose(compiled(*x.values(), discount, trace), expected, rtol=1e-5, atol=1e-5)


def test_gae_takes_any_trailing_axes_and_ignores_what_follows_a_termination():
    x = experience()
    flat = compiled(*x.values(), 0.9, 0.8)
    single = gae(*(jnp.asarray(v[:, 3]) for v in x.values()), 0.9, 0.8)
    np.testing.assert_allclose(single, flat[:, 3], rtol=1e-5, atol=1e-6)
    x["next_value"] = np.where(x["terminated"], np.nan, x["next_value"])
    np.testing.assert_array_equal(compiled(*x.values(), 0.9, 0.8), flat)


def test_td_target():
    rng = np.random.default_rng(0)
    reward, after = rng.normal(size=(2, 40)).astype(np.float32)
    terminated = rng.random(40) < 0.3
    got = td_target(reward, np.where(terminated, np.nan, after), terminated, 0.9)
    np.testing.assert_allclose(got, [r if t else r + 0.9 * v for r, v, t in zip(reward, after, terminated)], rtol=1e-6)
    td = jax.vmap(rlax.td_learning)(jnp.zeros(40), reward, 0.9 * (1.0 - jnp.asarray(terminated)), after)
    np.testing.assert_allclose(got, td, rtol=1e-6)


sums = jax.jit(discounted_sums)


def check_sums(f) -> None:
    x = experience(5)
    reward, ended = x["reward"], x["ended"]
    start = np.linspace(-2, 2, E).astype(np.float32)
    for discount in (0.9, 1.0):
        expected = np.zeros((T, E))
        for t in range(T):
            for e in range(E):
                for k in range(t, -1, -1):  # back to the beginning of the episode
                    if k < t and ended[k, e]:
                        break
                    expected[t, e] += discount ** (t - k) * reward[k, e]
                else:
                    expected[t, e] += discount ** (t + 1) * start[e]
        later, got = f(start, reward, ended, discount)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(later, np.where(ended[-1], 0, expected[-1]), rtol=1e-5, atol=1e-5)


def test_discounted_sums_by_definition():
    check_sums(sums)


def test_discounted_sums_equal_rlax_backwards_in_time_and_split_in_chunks():
    x = experience(7)
    reward, ended, start = x["reward"], x["ended"], jnp.arange(E, dtype=jnp.float32)
    _, got = sums(start, reward, ended, 0.9)
    before = np.concatenate([np.zeros((1, E), bool), ended[:-1]])
    decay = (0.9 * (1.0 - before)).astype(np.float32)
    bootstrap = jnp.broadcast_to(start, (T, E))
    expected = jax.vmap(rlax.discounted_returns, 1, 1)(reward[::-1], decay[::-1], bootstrap)[::-1]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    half = T // 2
    middle, first = sums(start, reward[:half], ended[:half], 0.9)
    _, second = sums(middle, reward[half:], ended[half:], 0.9)
    np.testing.assert_array_equal(np.concatenate([first, second]), got)
