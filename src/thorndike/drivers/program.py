"""How drivers compile."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax

CHOICES = {"xla_cpu_experimental_ynn_fusion_type": ""}  # no YNNPACK: products of 256 x 256 share cores badly there


def program(f: Callable, **how: Any) -> Any:
    """`jax.jit(f, **how)`, with the compiler's options that suit this machine."""
    return jax.jit(f, compiler_options=options(), **how)


@cache
def options() -> dict[str, Any]:
    """`CHOICES` where this compiler knows them, on a CPU; else nothing."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=CHOICES).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return CHOICES
