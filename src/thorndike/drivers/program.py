"""The compiler's options for the programs of drivers."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax

from thorndike.ops.optimise import LARGE
from thorndike.types import PyTree

EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}  # matrix products by Eigen, not by YNNPACK


def options(agents: PyTree, runs: int) -> dict[str, Any]:
    """For programs in which so many agents learn; arrays or shapes, [R, ...].

    On two cores Eigen's products are 15 to 20% faster than YNNPACK's from layers of 256 x 256 on, and slower below.
    """
    large = any(leaf.size >= runs * LARGE for leaf in jax.tree.leaves(agents))
    return EIGEN if large and known() else {}


@cache
def known() -> bool:
    """Whether these are options of this compiler, and for this machine."""
    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options=EIGEN).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
