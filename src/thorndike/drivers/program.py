"""The compiler's options for the programs of drivers."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import jax

from thorndike.types import PyTree

EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}  # matrix products by Eigen, not by YNNPACK
WIDE = 256 * 256  # numbers in a layer from which on they are faster


def options(agents: PyTree) -> dict[str, Any]:
    """For programs in which such agents learn; arrays or shapes, [R, ...].

    On two cores Eigen's products were 15 to 20% faster than YNNPACK's with layers of 256 x 256, and 5% slower with
    64 x 64.
    """
    wide = any(x.ndim > 2 and math.prod(x.shape[1:]) >= WIDE for x in jax.tree.leaves(agents))
    return EIGEN if wide and known() else {}


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
