"""Random keys: JAX's Threefry generator to the bit, with its rounds written out.

On the CPU, JAX compiles Threefry's twenty rounds as a loop, and a loop there costs several microseconds however little
it does: most of the time of a step of CartPole. Written out, they are one fused kernel. A key made here works with all
of `jax.random` and gives what `jax.random.key` would give.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import define_prng_impl

from thorndike.configuration import require
from thorndike.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # Salmon et al. 2011, table 4


@jax.jit
def rounds(k0: Array, k1: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds of the counters (x, y) under the keys (k0, k1); all uint32 of one shape.

    In XLA's own operations, and traced once for a shape: every draw has these hundred in its program.
    """
    add, xor, number = lax.add, lax.bitwise_xor, cache(lambda n: lax.broadcast(np.uint32(n), x.shape))
    schedule = (k0, k1, xor(xor(k0, k1), number(0x1BD11BDA)))
    x, y = add(x, k0), add(y, k1)
    for block in range(5):
        for rotation in ROTATIONS[block % 2]:
            x = add(x, y)
            turned = lax.shift_left(y, number(rotation)), lax.shift_right_logical(y, number(32 - rotation))
            y = xor(x, lax.bitwise_or(*turned))
        x, y = add(x, schedule[(block + 1) % 3]), add(add(y, schedule[(block + 2) % 3]), number(block + 1))
    return x, y


def apart(f: Callable[..., Any], otherwise: Callable[..., Any], *args: Array) -> Any:
    """`f(*args)` in a computation of its own: else XLA fuses it into every consumer, and computes it for each of them.

    `otherwise(*args)` has the same shapes, and is never called. `args[0]` holds uint32, at least one.
    """
    always = args[0].ravel()[0] | jnp.uint32(1) != 0  # which XLA cannot know
    return jax.lax.cond(always, f, otherwise, *args)


@jax.custom_batching.custom_vmap
def threefry(k0: Array, k1: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Threefry-2x32 of the counters (x, y) under the keys (k0, k1); all uint32 of one shape."""
    if x.size == 0:
        return x, y
    return jax.lax.platform_dependent(
        k0, k1, x, y, cpu=partial(apart, rounds, lambda k0, k1, x, y: (x, y)), default=rounds
    )


@threefry.def_vmap
def _(size: int, batched: list[bool], *args: Array) -> tuple[tuple[Array, Array], tuple[bool, bool]]:
    args = tuple(a if b else jnp.broadcast_to(a, (size, *a.shape)) for a, b in zip(args, batched))
    return threefry(*args), (True, True)


def _counted(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    if math.prod(shape) >= 2**32:
        raise ValueError(f"cannot draw {math.prod(shape)} random numbers at once")
    counter = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    return _hash(key, jnp.zeros_like(counter), counter)


@jax.jit
def _hash(key: Array, high: Array, low: Array) -> tuple[Array, Array]:
    return threefry(*(jnp.broadcast_to(k, low.shape) for k in key), high, low)


def _seed(seed: int | Array) -> Array:
    return jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return jnp.stack(_counted(key, shape), -1)


def _random_bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    x, y = _counted(key, shape)
    if width == 64:
        return x.astype(jnp.uint64) << 32 | y.astype(jnp.uint64)
    return (x ^ y).astype({8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[width])


def _fold_in(key: Array, data: int | Array) -> Array:
    high, low = _seed(data)
    return jnp.stack(_hash(key, high, low))


IMPLEMENTATION = define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in, name="threefry", tag="tf"
)


def normal(key: Array, shape: tuple[int, ...]) -> Array:
    """`jax.random.normal`, for draws with several consumers: computed once on the CPU, but for each under `vmap`.

    In one row, for there XLA computes along the last axis only, and an action has few dimensions.
    """
    n, kind = math.prod(shape), jax.random.key_impl(key)
    draw = lambda data: jax.random.normal(jax.random.wrap_key_data(data, impl=kind), (n,))  # noqa: E731
    nothing = lambda data: jnp.zeros(n)  # noqa: E731
    row = jax.lax.platform_dependent(jax.random.key_data(key), cpu=partial(apart, draw, nothing), default=draw)
    return row.reshape(shape)


def permutation(key: Array, n: int) -> Array:
    """A random order of the first n whole numbers, int32 [n]: as `jax.random.permutation`, but the CPU sorts one number
    for each of them and not a pair, which takes a fourth to a tenth of the time.

    A number's high bits are random, its low ones say whose it is, all with the same random bits turned, so that where
    the high ones are equal a coin decides who comes first. It is done again until so few are that this does no harm:
    512 pairs are to be expected from n = 16,384 on, fewer below.
    """
    bits = (n - 1).bit_length()
    low, name = np.uint32(2**bits - 1), jnp.arange(n, dtype=jnp.uint32)

    def shuffled(key: Array) -> Array:
        drawn = jax.random.bits(key, (n + 1,))
        turn = drawn[n] & low
        return (jnp.sort((drawn[:n] & ~low) | (name ^ turn)) & low) ^ turn

    order, *again = map(shuffled, jax.random.split(key, max(1, -(-(2 * bits - 10) // (32 - bits)))))
    return reduce(lambda order, places: order[places], again, order).astype(jnp.int32)


def random_key(seed: int | Array) -> Array:
    """A random key for `seed`, a scalar. Raises `ConfigError` for a number outside [0, 2**32)."""
    if isinstance(seed, int):
        require(0 <= seed < 2**32, f"a seed must lie between 0 and 2**32 - 1, got {seed}")
    return jax.random.key(np.uint32(seed) if isinstance(seed, int) else seed, impl=IMPLEMENTATION)
