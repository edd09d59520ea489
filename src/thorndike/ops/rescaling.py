"""A scale on which returns of all sizes are learned alike (Pohlen et al. 2018, proposition A.2)."""

from __future__ import annotations

import jax.numpy as jnp

from thorndike.types import Array

EPSILON = 1e-3  # the slope of h far out: it makes h⁻¹ Lipschitz


def squashed(x: Array) -> Array:
    """h(x) = sign(x) (√(|x| + 1) - 1) + ε x."""
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + EPSILON * x


def unsquashed(x: Array) -> Array:
    """h⁻¹(x) = sign(x) (((√(1 + 4ε (|x| + 1 + ε)) - 1) / (2ε))² - 1).

    Written without the difference of nearly equal numbers, of which float32 would leave two digits near 0.
    """
    c = jnp.abs(x) + EPSILON + 1.0
    root = 2.0 * c / (jnp.sqrt(1.0 + 4.0 * EPSILON * c) + 1.0)  # √(|h⁻¹| + 1), the root of ε t² + t = c
    return jnp.sign(x) * (root - 1.0) * (root + 1.0)
