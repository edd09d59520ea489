"""Pictures changed at random, so that a network does not learn them by heart."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.nets.cnn import channels_first
from thorndike.types import Array, PyTree


@config
class Shift:
    """Random shifts: a picture moved by up to `pixels` each way, its edges repeated (Kostrikov et al. 2021, DrQ)."""

    pixels: int = 4

    def check(self) -> None:
        """At least one pixel."""
        require(self.pixels > 0, f"Shift.pixels must be 1 or more, got {self.pixels}")

    def __call__(self, key: Array, obs: PyTree, axes: int) -> PyTree:
        """Observations whose pictures are shifted, each by a draw of its own.

        Args:
            obs: leaves [..., *shape] with so many leading `axes`. Pictures are those with three or four axes of their
                own, [H, W, C] or [C, H, W] and stacks of them, whose frames shift together.
        """
        leaves, structure = jax.tree.flatten(obs)
        keys = jax.random.split(key, len(leaves))
        moved = [self.moved(k, x, axes) if x.ndim - axes in (3, 4) else x for k, x in zip(keys, leaves)]
        return jax.tree.unflatten(structure, moved)

    def moved(self, key: Array, x: Array, axes: int) -> Array:
        """One leaf of pictures."""
        rows = -2 if channels_first(x.shape[-3:]) else -3
        flat = jnp.moveaxis(x.reshape(-1, *x.shape[axes:]), (rows, rows + 1), (1, 2))
        n, height, width = flat.shape[:3]
        by = jax.random.randint(key, (2, n, 1), -self.pixels, self.pixels + 1)
        down = jnp.clip(jnp.arange(height) + by[0], 0, height - 1)
        right = jnp.clip(jnp.arange(width) + by[1], 0, width - 1)
        flat = flat[jnp.arange(n)[:, None, None], down[:, :, None], right[:, None, :]]
        return jnp.moveaxis(flat, (1, 2), (rows, rows + 1)).reshape(x.shape)
