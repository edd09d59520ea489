"""From any observation to features: an encoder for each part of it, then an MLP over all of them."""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from thorndike.configuration import check, config, require
from thorndike.domains import Static
from thorndike.errors import ConfigError
from thorndike.names import did_you_mean
from thorndike.nets.cnn import NATURE, Images, ImpalaCNN, NatureCNN, ResidualCNN, SmallCNN, is_image, sides
from thorndike.nets.conv1d import Conv1D, Readings
from thorndike.nets.features import Fourier, Polynomial, TileCoding
from thorndike.nets.mlp import MLP, Activation, Init
from thorndike.nets.observations import Choice, Choices, Numbers
from thorndike.types import Array, PyTree

LAYERS, IMAGES = 128, 16  # a model's file is not believed more

Encoder = NatureCNN | SmallCNN | ImpalaCNN | ResidualCNN | Conv1D | Polynomial | Fourier | TileCoding


@config
class Torso:
    """The network below the heads: an encoder for each part of the observation, and dense layers over all of them.

    Images (see `nets/cnn.is_image`) go through convolutions, choices are one-hot, and all else is a vector. Whole
    numbers and images are scaled by their space's bounds to [0, 1]; other floats are left as they are.
    """

    widths: tuple[int, ...] | None = None  # of the dense layers; None: (512,) where there are images, else (64, 64)
    activation: Activation | None = None  # of the dense layers; None: relu behind convolutions, else tanh
    init: Init = "orthogonal"  # of all layers
    norm: Literal["none", "layer"] = "none"  # of the dense layers, before their activation
    dropout: Static | None = None  # probability that the output of a dense layer is dropped, where a key is given
    images: Literal["auto", "nature", "small", "impala", "residual", "none"] = "auto"  # "none": they are vectors too
    frozen: bool = False  # its parameters have no gradient, so an optimiser leaves them as they are
    parts: tuple[tuple[str, Encoder], ...] = ()  # encoders of parts by name: "camera", "arm/joints"; "": the whole

    def check(self) -> None:
        """Sizes and names make sense."""
        widths, names = self.widths or (), [name for name, _ in self.parts]
        require(all(w > 0 for w in widths), f"Torso.widths must be positive, got {widths}")
        require(len(widths) <= LAYERS, f"a Torso has at most {LAYERS} layers, not {len(widths)}")
        share = self.dropout is None or 0 <= self.dropout < 1
        require(share, f"Torso.dropout must be at least 0 and less than 1, got {self.dropout}")
        twice = [name for name in names if names.count(name) > 1]
        require(not twice, f"Torso.parts names {twice[:1]} more than once")
        for name, encoder in self.parts:
            check(encoder, f"Torso.parts[{name!r}]")

    def build(self, key: Array, space: Space, extra: int = 0) -> Network:
        """The network for observations of `space`, with `extra` more inputs (an action, say).

        A torso of your own is a `@td.config` subclass with this method. What it returns has `features` and is called
        as a `Network` is.
        """
        return Network(self, key, space, extra)

    def encoder(self, key: Array, name: str, space: Space) -> Any:
        """The module that reads one part."""
        named = dict(self.parts).get(name)
        if named is not None:
            try:
                return named.build(key, space, self.init)
            except ConfigError as error:
                raise ConfigError(f"Torso.parts[{name!r}]: {error}") from None
        if isinstance(space, Discrete):
            return Choice(space)
        if isinstance(space, MultiDiscrete):
            return Choices(space)
        assert isinstance(space, (Box, MultiBinary)), space
        image = is_image(space)
        if image and self.images != "none":
            large = min(sides(space.shape)[:2]) >= NATURE
            kind = ("nature" if large else "small") if self.images == "auto" else self.images
            return CONVOLUTIONS[kind].build(key, space, self.init)
        return Numbers(space, floats=image)


CONVOLUTIONS: dict[str, Any] = {
    "nature": NatureCNN(),
    "small": SmallCNN(),
    "impala": ImpalaCNN(),
    "residual": ResidualCNN(),
}


class Network(eqx.Module):
    """Observation pytree [..., *space.shape] (and an extra vector [..., extra]) to features [..., features].

    With a key, dropout is active.
    """

    encoders: tuple[Any, ...]  # one for each simple space, as JAX orders them
    mlp: MLP
    features: int = eqx.field(static=True)
    frozen: bool = eqx.field(static=True)

    def __init__(self, torso: Torso, key: Array, space: Space, extra: int):
        spaces, paths = leaves(space), names(space)
        for name, _ in torso.parts:
            require(name in paths, f"Torso.parts: there is no {name!r}{did_you_mean(name, paths)} in {space}")
        images = sum(torso.images != "none" and is_image(leaf) for leaf in spaces)
        require(images <= IMAGES, f"a Torso sees at most {IMAGES} images, not {images}: stack their channels")
        key, *keys = jax.random.split(key, len(spaces) + 1)
        self.encoders = tuple(torso.encoder(k, n, s) for k, n, s in zip(keys, paths, spaces))
        convolved = any(isinstance(encoder, (Images, Readings)) for encoder in self.encoders)
        activation = torso.activation or ("relu" if convolved else "tanh")
        default = (512,) if any(isinstance(encoder, Images) for encoder in self.encoders) else (64, 64)
        widths = default if torso.widths is None else torso.widths
        inputs = sum(encoder.features for encoder in self.encoders) + extra
        self.mlp = MLP(key, (inputs, *widths), activation, torso.init, torso.norm, torso.dropout)
        self.features = (inputs, *widths)[-1]
        self.frozen = torso.frozen

    def __call__(self, obs: PyTree, extra: Array | None = None, key: Array | None = None) -> Array:
        encoders, mlp = jax.lax.stop_gradient((self.encoders, self.mlp)) if self.frozen else (self.encoders, self.mlp)
        pieces = [encoder(x) for encoder, x in zip(encoders, jax.tree.leaves(obs))]
        if extra is not None:
            pieces.append(extra)
        return mlp(pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces, -1), key)


def leaves(space: Space) -> list[Space]:
    """The simple spaces inside `space`, in the order in which JAX flattens its observations."""
    if isinstance(space, Dict):
        return [leaf for name in sorted(space.spaces) for leaf in leaves(space.spaces[name])]
    if isinstance(space, Tuple):
        return [leaf for part in space.spaces for leaf in leaves(part)]
    return [space]


def names(space: Space, within: str = "") -> list[str]:
    """The names of `leaves(space)`: keys and indices joined by "/", and "" for a space without parts."""
    if isinstance(space, Dict):
        parts = [(name, space.spaces[name]) for name in sorted(space.spaces)]
    elif isinstance(space, Tuple):
        parts = [(str(i), part) for i, part in enumerate(space.spaces)]
    else:
        return [within]
    return [leaf for name, part in parts for leaf in names(part, f"{within}/{name}" if within else name)]


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
