"""Our Threefry against JAX's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thorndike.ops.keys import normal, random_key

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
