"""Our Threefry against JAX's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from thorndike.ops import keys
from thorndike.ops.keys import normal, permutation, random_key

DRAWS = {
    "split in two": lambda k: jax.random.key_data(jax.random.split(k)),
    "split in 7": lambda k: jax.random.key_data(jax.random.split(k, 7)),
    "fold in": lambda k: jax.random.key_data(jax.random.fold_in(k, 12345)),
    "8 bits": lambda k: jax.random.bits(k, (5,), "uint8"),
    "16 bits": lambda k: jax.random.bits(k, (5,), "uint16"),
    "32 bits": lambda k: jax.random.bits(k, (3, 5), "uint32"),
    "one number": lambda k: jax.random.uniform(k),
    "nothing": lambda k: jax.random.uniform(k, (0,)),
    "uniform": lambda k: jax.random.uniform(k, (1001,)),
    "normal": lambda k: jax.random.normal(k, (4, 3, 2)),
    "integers": lambda k: jax.random.randint(k, (64,), 0, 1_000_000),
    "permutation": lambda k: jax.random.permutation(k, 100),
    "categorical": lambda k: jax.random.categorical(k, jnp.arange(12.0).reshape(4, 3)),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("how", ["eager", "compiled", "batched"])
def test_draws_are_those_of_jax_to_the_bit(name, how):
    draw = {"eager": DRAWS[name], "compiled": jax.jit(DRAWS[name]), "batched": jax.jit(jax.vmap(DRAWS[name]))}[how]
    for seed in (0, 7, 2**32 - 1):
        ours, theirs = random_key(seed), jax.random.key(seed, impl="threefry2x32")
        if how == "batched":
            ours, theirs = jax.random.split(ours, 4), jax.random.split(theirs, 4)
        np.testing.assert_array_equal(draw(ours), draw(theirs))


@pytest.mark.parametrize("how", ["eager", "compiled", "batched"])
def test_normal_is_that_of_jax_to_the_bit(how):
    ours, theirs = (lambda k: normal(k, (5, 3))), (lambda k: jax.random.normal(k, (5, 3)))
    over = {"eager": lambda f: f, "compiled": jax.jit, "batched": lambda f: jax.jit(jax.vmap(f))}[how]
    key = jax.random.split(random_key(5), 4) if how == "batched" else random_key(5)
    np.testing.assert_array_equal(over(ours)(key), over(theirs)(key))


def test_64_bits():
    with jax.enable_x64(True):
        ours, theirs = random_key(3), jax.random.key(3, impl="threefry2x32")
        np.testing.assert_array_equal(jax.random.bits(ours, (5,), "uint64"), jax.random.bits(theirs, (5,), "uint64"))


def test_seeds_may_be_traced_and_too_much_at_once_is_an_error():
    seeds = jnp.arange(3, dtype=jnp.uint32)
    data = jax.random.key_data(jax.vmap(random_key)(seeds))
    np.testing.assert_array_equal(data, jax.random.key_data(jax.vmap(jax.random.key)(seeds)))
    with pytest.raises(ValueError, match="at once"):
        jax.jit(lambda: jax.random.bits(random_key(0), (2**16, 2**16))).lower()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 1024, 16_384, 20_001, 70_000])
def test_a_permutation_has_every_number_once(n):
    drawn = jax.jit(jax.vmap(lambda key: permutation(key, n)))(jax.random.split(random_key(n), 2))
    assert drawn.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(drawn), np.broadcast_to(np.arange(n), (2, n)))
    assert n < 7 or (drawn[0] != drawn[1]).any()


def test_every_order_is_as_likely():
    drawn = np.asarray(jax.vmap(lambda key: permutation(key, 4))(jax.random.split(random_key(0), 24_000)))
    counts = np.unique(drawn @ 4 ** np.arange(4), return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4


def ascents(n: int, draws: int = 20) -> float:
    """How many neighbours rise in random orders of n numbers, in standard deviations from what is to be expected of
    uniform ones (Eulerian numbers: mean (n - 1) / 2, variance (n + 1) / 12)."""
    drawn = np.asarray(jax.vmap(lambda key: permutation(key, n))(jax.random.split(random_key(1), draws)))
    rising = (np.diff(drawn, axis=1) > 0).sum()
    return float((rising - draws * (n - 1) / 2) / np.sqrt(draws * (n + 1) / 12))


@pytest.mark.parametrize("n", [1024, 16_384, 40_000])  # sorted once; once with 512 equal pairs; twice
def test_equal_random_bits_do_not_keep_their_order(n, monkeypatch):
    assert abs(ascents(n)) < 4
    if n == 16_384:  # by name where the bits are equal
        bits = jax.random.bits
        monkeypatch.setattr(keys.jax.random, "bits", lambda key, shape: bits(key, shape).at[-1].set(0))
        assert ascents(n) > 6
