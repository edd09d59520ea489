"""How much of the machine's matrix-multiply rate SAC's update reaches.

    python benchmarks/update.py

The work of an update is the sum over all matrix products in its program, backward passes included, of 2·m·n·k; nothing
else is counted. The rate of the machine is the best of square float32 products, compiled by the same compiler.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from gymnasium.spaces import Box

import thorndike as td
from thorndike.drivers.program import options
from thorndike.ops.keys import random_key
from thorndike.types import Spec, Transition

BATCH, OBS, ACTIONS, WIDTH = 256, 17, 6, 256  # HalfCheetah-v5, as in speed.py
REPEATS = 7
HOW = options(jax.ShapeDtypeStruct((1, WIDTH, WIDTH), jnp.float32))  # as the drivers compile


def products(jaxpr: Any) -> int:
    """Floating-point operations of the matrix products in a program."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contract, _), (batch, _) = equation.params["dimension_numbers"]
            left, right = (x.aval.shape for x in equation.invars)
            inner = math.prod(left[i] for i in contract)
            shared = math.prod(left[i] for i in batch)
            total += 2 * math.prod(left) * math.prod(right) // (inner * shared)
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                if hasattr(inner, "jaxpr"):
                    total += products(inner.jaxpr if hasattr(inner.jaxpr, "eqns") else inner)
                elif hasattr(inner, "eqns"):
                    total += products(inner)
    return total


def seconds(call: Any, times: int) -> float:
    """Of one call: the median over `REPEATS` runs of so many."""
    jax.block_until_ready(call())
    runs = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(times):
            result = call()
        jax.block_until_ready(result)
        runs.append((time.perf_counter() - start) / times)
    return statistics.median(runs)


def rate_of_product(n: int) -> float:
    """Floating-point operations a second of n x n by n x n."""
    x = jax.random.normal(jax.random.key(0), (n, n))
    multiply = jax.jit(lambda x: x @ x, compiler_options=HOW)
    return 2 * n**3 / seconds(lambda: multiply(x), max(1, round(4e9 / n**3)))


def sac_update() -> tuple[float, int]:
    """Seconds and matrix-product operations of an update."""
    torso = td.Torso(widths=(WIDTH, WIDTH), activation="relu", init="uniform")
    sac = td.SAC(num_envs=1, torso=torso, replay=td.Uniform(batch_size=BATCH))
    spec = Spec(Box(-float("inf"), float("inf"), (OBS,)), Box(-1.0, 1.0, (ACTIONS,)), steps=10_000)
    state = jax.jit(lambda key: sac.init(key, spec))(random_key(0))
    obs, next_obs = jax.random.normal(random_key(1), (2, BATCH, OBS))
    no, reward, action = jnp.zeros(BATCH, bool), jnp.ones(BATCH), jnp.zeros((BATCH, ACTIONS))
    batch = Transition(obs, no, action, {}, reward, no, no, next_obs, {})

    def step(state, batch, key):
        return sac.update(state, batch, key)[0]

    key = random_key(2)
    work = products(jax.make_jaxpr(step)(state, batch, key).jaxpr)
    update = jax.jit(step, compiler_options=HOW)  # the batch is an argument: what is constant is not computed each time
    return seconds(lambda: update(state, batch, key), 40), work


def main() -> None:
    rates = {n: rate_of_product(n) for n in (256, 512, 1024, 2048)}
    best = max(rates.values())
    took, work = sac_update()
    for n, rate in rates.items():
        print(f"product of {n} x {n}: {rate / 1e9:.1f} GFLOP/s")
    print(f"SAC's update: {work / 1e6:.0f} MFLOP of products in {took * 1e3:.2f} ms = {work / took / 1e9:.1f} GFLOP/s")
    print(f"share of the best rate: {work / took / best:.0%}; of the rate at {WIDTH}: {work / took / rates[256]:.0%}")


if __name__ == "__main__":
    main()
