"""How much each part of an observation contributed to a number: gradients, paths of them, and what is missed without.

`f` maps observations x, a pytree of arrays [N, ...], to F(x) [N], each row by itself; x₀ is a baseline of the same
shape, that which "nothing to be seen" looks like. Attributions have the shape of x. Parts are numbered: `groups` has an
array of numbers of the shape of one observation for each leaf, and elements of one number are one part.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.errors import IncompatibleError
from thorndike.types import Array, PyTree

Function = Callable[[PyTree], Array]
Method = Literal["integrated", "gradient", "gradient-x-input", "occlusion", "shapley"]
METHODS = get_args(Method)
GRADIENTS = ("integrated", "gradient", "gradient-x-input")
STEPS = 64  # of a path
PARTS = 12  # of a Shapley value: there are 2¹² subsets


def gradient(f: Function, x: PyTree) -> PyTree:
    """∂F/∂x (Simonyan et al. 2014). Raises `IncompatibleError` where some of x are no real numbers."""
    if any(not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(x)):
        raise IncompatibleError("choices have no gradient: use occlusion, or shapley")
    return jax.grad(lambda x: f(x).sum())(x)


def gradient_x_input(f: Function, x: PyTree, baseline: PyTree) -> PyTree:
    """(x - x₀) ∂F/∂x (Shrikumar et al. 2017, with a baseline): exact where F is linear."""
    return jax.tree.map(lambda g, x, x0: g * (x - x0), gradient(f, x), x, baseline)


def integrated_gradients(f: Function, x: PyTree, baseline: PyTree, steps: int = STEPS) -> PyTree:
    """(x - x₀) ∫₀¹ ∂F/∂x (x₀ + t (x - x₀)) dt (Sundararajan, Taly & Yan 2017, equation 1), by the midpoint rule.

    They add up to F(x) - F(x₀), but for the error of the rule.
    """
    if any(not jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(x)):
        raise IncompatibleError("choices have no gradient: use occlusion, or shapley")

    def add(total, t):
        here = jax.tree.map(lambda x, x0: x0 + t * (x - x0), x, baseline)
        return jax.tree.map(jnp.add, total, gradient(f, here)), None

    middles = (jnp.arange(steps) + 0.5) / steps
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, x), middles)
    return jax.tree.map(lambda g, x, x0: g / steps * (x - x0), total, x, baseline)


def occlusion(f: Function, x: PyTree, baseline: PyTree, groups: PyTree) -> PyTree:
    """F(x) - F(x with one part as in x₀) (Zeiler & Fergus 2014), spread evenly over the elements of that part."""
    whole = f(x)
    missed = jax.lax.map(lambda part: whole - f(without(x, baseline, groups, part)), jnp.arange(count(groups)))
    return spread(missed, groups)


def shapley(f: Function, x: PyTree, baseline: PyTree, groups: PyTree) -> PyTree:
    """Exact Shapley values (Shapley 1953; Lundberg & Lee 2017, equation 4) of n parts, spread over their elements.

    φ_i = Σ_{S ∌ i} |S|! (n - |S| - 1)! / n! (v(S ∪ {i}) - v(S)),   v(S) = F(x where S, x₀ elsewhere)

    Raises:
        IncompatibleError: there are more than 12 parts.
    """
    n = count(groups)
    if n > PARTS:
        raise IncompatibleError(
            f"exact Shapley values are for at most {PARTS} parts, and there are {n}: use integrated"
        )
    subsets = np.array([*itertools.product((False, True), repeat=n)])  # [2ⁿ, n]

    def value(present):
        keep = lambda x, x0, g: jnp.where(present[g], x, x0)  # noqa: E731
        return f(jax.tree.map(keep, x, baseline, groups))

    return spread(jnp.tensordot(shapley_weights(subsets), jax.lax.map(value, jnp.asarray(subsets)), 1), groups)


def shapley_weights(subsets: np.ndarray) -> np.ndarray:
    """The factor of each v(S) [2ⁿ] in every φ_i, [n, 2ⁿ]: subsets with i add, those without it are subtracted."""
    n = subsets.shape[1]
    share = lambda size: math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)  # noqa: E731
    rows = [[share(sum(s) - 1) if s[i] else -share(sum(s)) for s in subsets.tolist()] for i in range(n)]
    return np.array(rows, np.float32)


def without(x: PyTree, baseline: PyTree, groups: PyTree, part: Array) -> PyTree:
    """x with one part as in x₀."""
    return jax.tree.map(lambda x, x0, g: jnp.where(g == part, x0, x), x, baseline, groups)


def count(groups: PyTree) -> int:
    """How many parts there are."""
    return 1 + max(int(np.max(g)) for g in jax.tree.leaves(groups))


def spread(values: Array, groups: PyTree) -> PyTree:
    """Values of parts [G, N] as attributions of their elements [N, ...]."""
    sizes = sum(np.bincount(np.ravel(g), minlength=count(groups)) for g in jax.tree.leaves(groups))
    each = (values / jnp.asarray(sizes)[:, None]).T  # [N, G]
    return jax.tree.map(lambda g: each[:, jnp.asarray(g)], groups)


def each_element(shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Groups in which every element of leaves of these shapes is a part."""
    found, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        found.append(np.arange(start, start + size).reshape(shape))
        start += size
    return found
