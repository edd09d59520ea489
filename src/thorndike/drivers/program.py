"""The compiler's options for the programs of drivers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax

from thorndike.types import PyTree

EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}  # matrix products by Eigen, not by YNNPACK
# What runs once, on the CPU: compiled in half of the time; but storage is filled four times as slowly.
BRIEF: dict[str, Any] = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0}
LARGE = 2**28  # bytes of storage: such a program fills less
WIDE = 256 * 256  # numbers in a layer from which on they can be faster


def options(agents: PyTree) -> dict[str, Any]:
    """For programs in which such agents learn; arrays or shapes, [R, ...].

    Which products are the faster ones was measured on two CPUs (`benchmarks/results/update.md`); with small layers
    YNNPACK's are.
    """
    wide = any(x.ndim > 2 and math.prod(x.shape[-2:]) >= WIDE for x in jax.tree.leaves(agents))
    return EIGEN if wide and known(EIGEN) and not wide_vectors() else {}


def known(options: dict[str, Any]) -> bool:
    """Whether these are options of this compiler, and for this machine."""
    return jax.default_backend() == "cpu" and _known(tuple(options.items()))


@cache
def _known(options: tuple[tuple[str, Any], ...]) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


@cache
def wide_vectors() -> bool:
    """Whether the CPU has AVX-512, as had the one whose wide layers YNNPACK multiplied faster, too."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and " avx512f " in flags.read_text()


def once(f: Callable[[], PyTree]) -> PyTree:
    """`f()`, for what takes milliseconds and is called once: how long it takes to compile is what is felt of it."""
    lowered = jax.jit(f).lower()
    small = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(lowered.out_info)) < LARGE
    return lowered.compile(BRIEF if small and known(BRIEF) else {})()
