"""What observations are compared with, and the parts that they have: elements of vectors, patches of images."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.explain.attribution import PARTS, Method, each_element
from thorndike.nets.cnn import channels_first, is_image
from thorndike.nets.torso import leaves, names
from thorndike.ops.statistics import Running
from thorndike.types import Array, PyTree

PATCHES = 12  # of an image, along its longer side, that occlusion covers one after the other
TILES = 3  # along each side, of which Shapley values are computed


class Layout(NamedTuple):
    """The leaves of an observation; hashable."""

    shapes: tuple[tuple[int, ...], ...]
    images: tuple[bool, ...]
    names: tuple[str, ...]

    @staticmethod
    def of(space: Any) -> Layout:
        """That of a space."""
        found = leaves(space)
        shapes = tuple(tuple(leaf.shape or ()) for leaf in found)
        return Layout(shapes, tuple(map(is_image, found)), tuple(names(space)))

    def groups(self, method: Method) -> list[np.ndarray]:
        """The parts that a method tells apart, numbered, an array for each leaf.

        Elements of vectors are parts, and of images patches, over all channels. Shapley values of more than 12 elements
        are those of the leaves, where there are several.
        """
        if method == "shapley" and sum(map(math.prod, self.shapes)) > PARTS and 1 < len(self.shapes) <= PARTS:
            return [np.full(shape, i) for i, shape in enumerate(self.shapes)]
        found, start = [], 0
        for shape, image in zip(self.shapes, self.images):
            here = _patches(shape, TILES if method == "shapley" else PATCHES) if image else each_element([shape])[0]
            found.append(here + start)
            start += int(here.max()) + 1
        return found

    def labels(self, given: tuple[str, ...] = ()) -> list[str]:
        """What features are called: elements of vectors, and channels of images."""
        found = []
        for shape, image, name in zip(self.shapes, self.images, self.names):
            n = _channels(shape) if image else math.prod(shape)
            kind = f"{name} " if name else ""
            many = [f"{kind}{'channel ' if image else ''}{i}" for i in range(n)]
            found += many if n > 1 or not name else [name]
        return list(given) or found

    def by_feature(self, maps: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The sums of attributions [N, *shape] over each feature, and those of their sizes, both [N, F]."""
        signed, sizes = [], []
        for x, shape, image in zip(maps, self.shapes, self.images):
            rows = _by_channel(x, shape) if image else x.reshape(len(x), -1, 1)
            signed.append(rows.sum(-1))
            sizes.append(np.abs(rows).sum(-1))
        return np.concatenate(signed, 1), np.concatenate(sizes, 1)


def sides_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Which axes of an image are its height and width."""
    start = max(len(shape) - 3, 0)
    first = len(shape) > 2 and channels_first(shape[-3:])
    return start + first, start + first + 1


def _channels(shape: tuple[int, ...]) -> int:
    h, w = sides_of(shape)
    return math.prod(shape) // (shape[h] * shape[w])


def _by_channel(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    h, w = sides_of(shape)
    moved = np.moveaxis(x, (h + 1, w + 1), (-2, -1))
    return moved.reshape(len(x), _channels(shape), shape[h] * shape[w])


def _patches(shape: tuple[int, ...], most: int) -> np.ndarray:
    h, w = sides_of(shape)
    size = math.ceil(max(shape[h], shape[w]) / most)
    rows, columns = np.arange(shape[h]) // size, np.arange(shape[w]) // size
    flat = rows[:, None] * (columns[-1] + 1) + columns
    others = [i for i in range(len(shape)) if i not in (h, w)]
    return np.broadcast_to(np.expand_dims(flat, others), shape)


def baseline(agent: Any, obs: PyTree) -> PyTree:
    """What observations [N, ...] are compared with, of their shape.

    Images are compared with themselves, blurred (Greydanus et al. 2018); numbers with their mean in training where the
    agent knows it, else with that of `obs`, which is 0 for a single one; choices with the most frequent one.
    """
    flat, structure = jax.tree.flatten(obs)
    known = jax.tree.leaves(getattr(agent.actor, "statistics", ()), is_leaf=lambda s: isinstance(s, Running) or s == ())
    known = known if len(known) == len(flat) else [()] * len(flat)
    spaces = leaves(agent.spec.observation)
    return jax.tree.unflatten(structure, [_of_leaf(x, space, s) for x, space, s in zip(flat, spaces, known)])


def _of_leaf(x: Any, space: Any, statistics: Any) -> Array:
    if is_image(space):
        return blurred(jnp.asarray(x, jnp.float32), tuple(space.shape))
    if isinstance(space, (Discrete, MultiDiscrete)):
        values, counts = np.unique(np.asarray(x), axis=0, return_counts=True)
        found = jnp.asarray(values[counts.argmax()])
    elif isinstance(statistics, Running):
        found = statistics.mean
    else:
        found = jnp.asarray(x, jnp.float32).mean(0) * (len(x) > 1)
    return jnp.broadcast_to(found, x.shape)


def blurred(x: Array, shape: tuple[int, ...]) -> Array:
    """Images [N, *shape] behind a Gaussian of a sixteenth of their size, at least a pixel wide."""
    h, w = sides_of(shape)
    for axis in (h, w):
        size = shape[axis]
        far = np.subtract.outer(np.arange(size), np.arange(size)) / max(1.0, max(shape[h], shape[w]) / 16)
        weights = np.exp(-0.5 * far**2)
        kernel = jnp.asarray(weights / weights.sum(1, keepdims=True), jnp.float32)
        x = jnp.moveaxis(jnp.tensordot(x, kernel, ((axis + 1,), (1,))), -1, axis + 1)
    return x


def as_numbers(obs: PyTree, space: Any) -> PyTree:
    """Observations whose numbers are float32, so that they can be moved a little; choices stay as they are."""
    flat, structure = jax.tree.flatten(obs)
    real = [isinstance(leaf, (Box, MultiBinary)) for leaf in leaves(space)]
    numbers = [jnp.asarray(x, jnp.float32) if is_real else jnp.asarray(x) for x, is_real in zip(flat, real)]
    return jax.tree.unflatten(structure, numbers)
