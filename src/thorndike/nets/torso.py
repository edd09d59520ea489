"""From any observation to features: one-hot, flatten, or convolve each part, then an MLP over all of them."""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from thorndike.configuration import config, require
from thorndike.nets.cnn import NatureCNN
from thorndike.nets.mlp import MLP
from thorndike.types import Array, PyTree

Part = tuple[str, tuple[int, ...], tuple[int, ...]]  # kind, shape, (sizes..., starts...) of one-hots


@config
class Torso:
    """The network below the heads: an MLP over vectors, the Nature CNN in front of it where the input is an image."""

    widths: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu", "elu", "gelu", "silu"] = "tanh"
    init: Literal["orthogonal", "uniform"] = "orthogonal"

    def check(self) -> None:
        """Every layer has at least one unit."""
        require(all(w > 0 for w in self.widths), f"Torso.widths must be positive, got {self.widths}")

    def build(self, key: Array, space: Space, extra: int = 0) -> Network:
        """The network for observations of `space`, with `extra` more inputs (an action, say)."""
        return Network(self, key, space, extra)


class Network(eqx.Module):
    """Observation pytree [..., *space.shape] (and an extra vector [..., extra]) to features [..., widths[-1]]."""

    images: tuple[NatureCNN, ...]
    mlp: MLP
    parts: tuple[Part, ...] = eqx.field(static=True)
    features: int = eqx.field(static=True)

    def __init__(self, torso: Torso, key: Array, space: Space, extra: int):
        key, *keys = jax.random.split(key, len(leaves(space)) + 1)
        self.parts = tuple(describe(leaf) for leaf in leaves(space))
        images = [(k, part) for k, part in zip(keys, self.parts) if part[0] == "image"]
        self.images = tuple(NatureCNN(k, shape) for k, (_, shape, _) in images)
        inputs = sum(512 if part[0] == "image" else width(part) for part in self.parts) + extra
        # Behind a CNN alone the features are the Nature network's own; an MLP joins them to anything else.
        alone = len(self.parts) == len(images) and extra == 0
        sizes = (inputs,) if alone else (inputs, *torso.widths)
        self.mlp = MLP(key, sizes, torso.activation, torso.init)
        self.features = sizes[-1]

    def __call__(self, obs: PyTree, extra: Array | None = None) -> Array:
        pieces, images = [], iter(self.images)
        for part, x in zip(self.parts, jax.tree.leaves(obs)):
            pieces.append(next(images)(x) if part[0] == "image" else encode(part, x))
        if extra is not None:
            pieces.append(extra)
        return self.mlp(pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces, -1))


def leaves(space: Space) -> list[Space]:
    """The simple spaces inside `space`, in the order in which JAX flattens its observations."""
    if isinstance(space, Dict):
        return [leaf for name in sorted(space.spaces) for leaf in leaves(space.spaces[name])]
    if isinstance(space, Tuple):
        return [leaf for part in space.spaces for leaf in leaves(part)]
    return [space]


def describe(space: Space) -> Part:
    """How to encode one simple space: ("onehot" | "image" | "vector", shape, sizes and starts)."""
    if isinstance(space, Discrete):
        return "onehot", (), (int(space.n), int(space.start))
    if isinstance(space, MultiDiscrete):
        return "onehots", space.shape, tuple(int(n) for n in (*space.nvec.ravel(), *space.start.ravel()))
    if isinstance(space, Box) and len(space.shape) == 3 and space.dtype == np.uint8:
        return "image", space.shape, ()
    assert isinstance(space, (Box, MultiBinary)), space
    return "vector", tuple(space.shape), ()


def width(part: Part) -> int:
    """How many numbers `encode` makes of it."""
    kind, shape, sizes = part
    return sum(sizes[: len(sizes) // 2]) if kind in ("onehot", "onehots") else int(np.prod(shape))


def encode(part: Part, x: Array) -> Array:
    """A vector [..., width] of floats."""
    kind, shape, sizes = part
    if kind == "onehot":
        return jax.nn.one_hot(x - sizes[1], sizes[0])
    x = x.reshape((*x.shape[: x.ndim - len(shape)], -1))
    if kind == "onehots":
        ns, starts = sizes[: len(sizes) // 2], sizes[len(sizes) // 2 :]
        return jnp.concatenate([jax.nn.one_hot(x[..., i] - s, n) for i, (n, s) in enumerate(zip(ns, starts))], -1)
    return x.astype(jnp.float32)


def example(space: Space) -> Any:
    """One observation of zeros, as a pytree of arrays with the space's shapes and dtypes."""
    if isinstance(space, Dict):
        return {name: example(part) for name, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(example(part) for part in space.spaces)
    return jnp.zeros(space.shape or (), _dtype(space))


def _dtype(space: Space) -> Any:
    dtype = np.dtype(space.dtype)
    return {np.dtype("int64"): jnp.int32, np.dtype("float64"): jnp.float32}.get(dtype, dtype)
