"""Exploration: what `choose` does is what `probabilities` says, and what distrax says; masks, ties, schedules."""

from __future__ import annotations

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.ops.exploration import Epsilon, Softmax, greedy_probabilities, linear, softmax_probabilities

VALUES = np.array(
    [[0.1, 0.9, -0.5, 0.3, 0.2], [1, 1, 0, 1, -1], [2, 2, 2, 2, 2], [-7, -3, -5, -3, -9], [0, 1, 2, 3, 4]], np.float32
)
MASK = np.array([[1, 0, 1, 1, 0], [1, 0, 1, 1, 1], [0, 1, 0, 1, 0], [1, 0, 1, 0, 1], [0, 0, 1, 0, 0]], bool)
LEVELS = {Epsilon: (0.0, 0.3, 1.0), Softmax: (0.2, 1.0, 1e8)}
N = 20_000


def check_frequencies(choose, strategy, masked: bool) -> None:
    """Chi-square of many choices against `probabilities`; an action of probability 0 is never chosen."""
    mask = jnp.asarray(MASK) if masked else None
    key = jax.random.key(1, impl="rbg")  # compiles faster than the default
    many = jnp.broadcast_to(VALUES, (N, *VALUES.shape))
    for level in LEVELS[type(strategy)]:
        probabilities = np.asarray(strategy.probabilities(jnp.asarray(VALUES), level, mask), float)
        actions = np.asarray(choose(strategy, key, many, jnp.float32(level), mask))
        assert actions.shape == (N, len(VALUES))
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
        for row, p in enumerate(probabilities):
            counts = np.bincount(actions[:, row], minlength=VALUES.shape[1])
            if masked:
                assert counts[~MASK[row]].sum() == 0
                assert p[~MASK[row]].sum() == 0
            likely = p * N >= 5
            assert counts[~likely].sum() <= 15
            expected = p[likely] / p[likely].sum() * counts[likely].sum()
            if likely.sum() > 1:
                assert scipy.stats.chisquare(counts[likely], expected).pvalue > 1e-3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("strategy", [Epsilon(), Softmax()], ids=["epsilon", "softmax"])
def test_choices_follow_the_probabilities(strategy, masked):
    check_frequencies(lambda s, *args: s.choose(*args), strategy, masked)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_probabilities_equal_distrax(level):
    temperature = level + 0.1
    greedy, soft = (greedy_probabilities(VALUES, level), softmax_probabilities(VALUES, temperature))
    np.testing.assert_allclose(greedy, distrax.EpsilonGreedy(jnp.asarray(VALUES), level).probs, atol=1e-6)
    np.testing.assert_allclose(soft, distrax.Softmax(jnp.asarray(VALUES), temperature).probs, atol=1e-6)
    greedy, soft = (greedy_probabilities(VALUES, level, MASK), softmax_probabilities(VALUES, temperature, MASK))
    for row, allowed in enumerate(MASK):  # as if the illegal actions did not exist
        values = jnp.asarray(VALUES[row, allowed])
        np.testing.assert_allclose(greedy[row, allowed], distrax.EpsilonGreedy(values, level).probs, atol=1e-6)
        np.testing.assert_allclose(soft[row, allowed], distrax.Softmax(values, temperature).probs, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, -20.0, -2000.0, 1e6])
def test_softmax_never_takes_an_illegal_action_at_any_temperature(offset):
    for temperature in (1e-8, 1e-6, 1.0, 1e8):
        found = np.asarray(softmax_probabilities(VALUES + offset, temperature, MASK))
        assert (found[~MASK] == 0).all()
        np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
        keys = jax.random.split(jax.random.key(0), 50)
        chosen = jax.vmap(lambda key, t=temperature: Softmax().choose(key, VALUES + offset, t, MASK))(keys)
        assert np.take_along_axis(MASK, np.asarray(chosen).T, 1).all()


def test_linear_equals_optax():
    steps, total, fraction = np.arange(0, 101, 5), 100, 0.4
    schedule = optax.linear_schedule(1.0, 0.05, int(fraction * total))
    expected = [schedule(step) for step in steps]
    np.testing.assert_allclose(linear(1.0, 0.05, fraction, steps / total), expected, rtol=1e-5)
    for strategy in (Epsilon(start=1.0, end=0.05, fraction=fraction), Softmax(start=1.0, end=0.05, fraction=fraction)):
        np.testing.assert_allclose(strategy.level(steps / total), expected, rtol=1e-5)
    np.testing.assert_allclose(linear(1.0, 0.2, 0.0, jnp.array([0.0, 0.1, 1.0])), [1.0, 0.2, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        Epsilon(start=1.5), Epsilon(end=-0.1), Epsilon(fraction=2.0), Epsilon(end=np.array([0.1, 1.1])),
        Softmax(start=0.0), Softmax(end=-1.0), Softmax(fraction=-1.0),
    ],
)  # fmt: skip
def test_check_names_the_field(bad):
    field = next(
        name for name in ("start", "end", "fraction") if np.any(getattr(bad, name) != getattr(type(bad)(), name))
    )
    with pytest.raises(ConfigError, match=f"{type(bad).__name__}.{field}"):
        check(bad)


def test_check_accepts_sweeps_and_ends():
    check(Epsilon(start=np.array([0.0, 1.0]), end=0.0, fraction=1.0))
    check(Softmax(end=np.array([0.1, 2.0])))
