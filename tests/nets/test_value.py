"""Heads for the values of actions: their layers and noise against closed forms and NumPy."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.nets import noisy
from thorndike.nets.noisy import NoisyLinear
from thorndike.nets.value import Categorical, Implicit, Mean, Quantiles, saturation

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)


def variances():
    """Of a noisy layer's outputs over keys, and in closed form: E|N| = √(2/π) is the variance of each ε."""
    layer = NoisyLinear(KEY, 5, 4)
    layer = eqx.tree_at(lambda n: n.weight_scale, layer, jax.random.uniform(KEY, (5, 4)))
    draws = jax.jit(jax.vmap(lambda key: layer(X[0], key)))(jax.random.split(KEY, 60_000))
    one = np.sqrt(2 / np.pi)
    expected = one * (one * (layer.weight_scale**2 * X[0][:, None] ** 2).sum(0) + layer.bias_scale**2)
    np.testing.assert_allclose(draws.mean(0), layer(X[0]), atol=0.02)
    return draws, expected


def test_the_noise_of_a_noisy_layer_in_closed_form():
    draws, expected = variances()
    np.testing.assert_allclose(draws.var(0), expected, rtol=0.04)


REAL = noisy.factors
MUTANTS = {
    "no root": lambda key, i, o: tuple(jnp.split(jax.random.normal(key, (i + o,)), [i])),
    "one noise for both sides": lambda key, i, o: (REAL(key, i, o)[1][jnp.arange(i) % o], REAL(key, i, o)[1]),
    "none": lambda key, i, o: (jnp.zeros(i), jnp.zeros(o)),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_other_noise_is_noticed(mutant, monkeypatch):
    monkeypatch.setattr(noisy, "factors", MUTANTS[mutant])
    with pytest.raises(AssertionError):
        test_the_noise_of_a_noisy_layer_in_closed_form()


def test_noise_is_of_every_draw_and_of_the_key():
    layer = NoisyLinear(KEY, 5, 4, 0.5)
    assert np.abs(layer.weight).max() <= 1 / np.sqrt(5)
    np.testing.assert_allclose(layer.weight_scale, 0.5 / np.sqrt(5))
    np.testing.assert_allclose(layer(X), X @ layer.weight + layer.bias, rtol=1e-5)  # none without a key
    assert not np.allclose(layer(X, jax.random.key(1)), layer(X, jax.random.key(2)))
    same = layer(jnp.stack([X[0], X[0]]), KEY)
    np.testing.assert_array_equal(same[0], same[1])  # one draw for all rows


HEADS = {
    "mean": Mean(),
    "c51": Categorical(atoms=7),
    "quantiles": Quantiles(n=7),
    "implicit": Implicit(acting=7, waves=8),
}


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_shapes_and_means(head, dueling):
    head = HEADS[head]
    layers = head.build(KEY, 5, 2, dueling, None, "uniform")
    values = layers(X)
    assert head.mean(values).shape == (3, 2)
    action = jnp.asarray([0, 1, 0])
    picked = head.mean(head.pick(values, action))
    np.testing.assert_allclose(picked, np.asarray(head.mean(values))[np.arange(3), action], rtol=1e-5)
    if not isinstance(head, Mean):
        returns, p = head.distribution(values)
        assert returns.shape == p.shape == (3, 2, 7)
        np.testing.assert_allclose((returns * p).sum(-1), head.mean(values), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["mean", "c51", "quantiles"])
def test_dueling_is_aggregated_by_the_mean(head):
    """Numbers are V where they are averaged over actions, and no constant in A changes them."""
    layers = HEADS[head].build(KEY, 5, 3, True, None, "uniform")
    assert layers.value.hidden.weight.shape == (5, 5)  # each stream has a hidden layer of its own
    assert not np.array_equal(layers.value.hidden.weight, layers.advantage.hidden.weight)
    numbers = np.asarray(layers(X)).reshape(3, 3, -1)
    np.testing.assert_allclose(numbers.mean(1), layers.value(X), atol=1e-5)
    moved = eqx.tree_at(lambda n: n.advantage.last.bias, layers, layers.advantage.last.bias + 10.0)
    np.testing.assert_allclose(moved(X).reshape(numbers.shape), numbers, atol=1e-4)


@pytest.mark.parametrize(("dueling", "share"), [(True, 1 / 3), (False, 0.0)])
def test_what_a_step_on_one_action_does_to_the_other(dueling, share):
    """With weights of 0 only the last biases learn: Q(s, 1) moves by (1 - 1/A) / (2 - 1/A) of Q(s, 0)'s, for two
    actions a third (without the mean it were a half)."""
    layers = jax.tree.map(jnp.zeros_like, Mean().build(KEY, 5, 2, dueling, None, "uniform"))
    slope = jax.grad(lambda n: ((n(X)[:, 0] - 1.0) ** 2).mean())(layers)
    moved = jax.tree.map(lambda x, g: x - 0.1 * g, layers, slope)(X)[0]
    np.testing.assert_allclose(moved[1] / moved[0], share, atol=1e-5)


def test_implicit_quantiles_are_told_their_fractions():
    """With a key they are random, of each row its own, and change with the key; without, evenly spread."""
    layers = Implicit(samples=6, acting=4, waves=8).build(KEY, 5, 2, False, None, "uniform")
    still, one, two = layers(X), layers(X, jax.random.key(1)), layers(X, jax.random.key(2))
    np.testing.assert_allclose(still.fractions, np.tile((np.arange(4) + 0.5) / 4, (3, 1)))
    assert one.numbers.shape == (3, 2, 6)
    assert len(np.unique(one.fractions)) == 18
    assert not np.array_equal(one.fractions, two.fractions)
    for i, j in np.ndindex(3, 6):  # eq. 4 by hand
        waves = np.cos(np.pi * np.arange(8) * one.fractions[i, j])
        features = X[i] * np.maximum(waves @ layers.embedding.weight + layers.embedding.bias, 0)
        expected = features @ layers.layers.advantage.weight + layers.layers.advantage.bias
        np.testing.assert_allclose(one.numbers[i, :, j], expected, atol=1e-5)


def test_returns_beyond_the_atoms_are_told():
    """All mass is on an end where they are, none on it where they lie inside; other heads have no ends."""
    head, logits, no = Categorical(atoms=5, low=-1.0, high=1.0), jnp.zeros((3, 5)), jnp.ones(3, bool)
    for reward, share in ((7.0, 1), (-7.0, 1), (0.25, 0)):
        target = head.target(logits, jnp.full(3, reward), no, 0.9)
        assert saturation(head, target)["end_atoms"] == share
    assert saturation(Mean(), jnp.zeros(3)) == {}


@pytest.mark.parametrize(
    "head",
    [Categorical(atoms=1), Categorical(low=1.0, high=1.0), Quantiles(n=0), Quantiles(kappa=0.0), Implicit(samples=0)],
)
def test_what_cannot_be_is_refused(head):
    with pytest.raises(ConfigError, match=r"head|kappa"):
        check(head)
