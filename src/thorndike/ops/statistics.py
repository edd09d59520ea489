"""Running mean and variance of observations and returns."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from thorndike.types import Array, PyTree, Transition


class Running(NamedTuple):
    """Mean and variance per element, merged batch by batch (Chan, Golub & LeVeque 1979)."""

    mean: Array
    var: Array
    count: Array  # type: ignore[assignment]

    def update(self, batch: Array) -> Running:
        """Statistics with `batch` [..., *shape] added; leading axes are samples."""
        batch = batch.reshape((-1, *self.mean.shape)).astype(jnp.float32)
        n = batch.shape[0]
        total = self.count + n
        delta = batch.mean(0) - self.mean
        mean = self.mean + delta * (n / total)
        var = (self.var * self.count + batch.var(0) * n + delta**2 * (self.count * n / total)) / total
        return Running(mean, var, total)

    def normalise(self, x: Array, clip: float = 10.0) -> Array:
        """(x - mean) / std, clipped to [-clip, clip]."""
        return jnp.clip((x - self.mean) / self.std, -clip, clip)

    @property
    def std(self) -> Array:
        """The standard deviation; 1 where it is no more than float32's rounding of the mean: of constants."""
        least = (1e-6 * self.mean) ** 2 + 1e-30
        return jnp.sqrt(jnp.where(self.var <= least, 1.0, self.var))


def running(shape: tuple[int, ...] = ()) -> Running:
    """Statistics of nothing yet: mean 0, variance 1; the first batch sets both."""
    return Running(jnp.zeros(shape), jnp.ones(shape), jnp.float32(0))


def running_tree(example: PyTree) -> PyTree:
    """A `Running` for each float leaf of one observation; () for the others, which are never normalised."""
    return jax.tree.map(lambda x: running(x.shape) if jnp.issubdtype(x.dtype, jnp.floating) else (), example)


def update_tree(statistics: PyTree, batch: PyTree) -> PyTree:
    """Update each `Running` with the matching leaf of `batch`."""
    return _zip(lambda s, x: s.update(x), statistics, batch, otherwise=lambda s, x: s)


def normalise_tree(statistics: PyTree, obs: PyTree) -> PyTree:
    """Normalise each float leaf of `obs`."""
    return _zip(lambda s, x: s.normalise(x), statistics, obs, otherwise=lambda s, x: x)


def observed(statistics: PyTree, steps: Transition) -> tuple[PyTree, Transition]:
    """Statistics with a batch's observations added, and the batch normalised with them; () changes nothing."""
    statistics = update_tree(statistics, steps.obs)
    obs, next_obs = (normalise_tree(statistics, x) for x in (steps.obs, steps.next_obs))
    return statistics, steps._replace(obs=obs, next_obs=next_obs)


def counted(statistics: PyTree) -> Array:
    """How many observations there were, by the leaf that counts most; NaN where any count is."""
    is_running = lambda s: isinstance(s, Running)  # noqa: E731
    return jnp.stack([s.count for s in jax.tree.leaves(statistics, is_leaf=is_running) if is_running(s)]).max()


def _zip(f, statistics, tree, otherwise):
    leaf = lambda s: isinstance(s, Running) or s == ()  # noqa: E731
    return jax.tree.map(
        lambda s, x: f(s, x) if isinstance(s, Running) else otherwise(s, x), statistics, tree, is_leaf=leaf
    )
