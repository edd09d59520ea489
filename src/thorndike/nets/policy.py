"""The last layer of a policy: from features to a distribution over any supported action space."""

from __future__ import annotations

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.envs.mixed import Mixed
from thorndike.nets.mlp import Dense
from thorndike.ops.distributions import ILLEGAL, Bernoulli, Categorical, Joint, MultiCategorical, Normal
from thorndike.ops.noise import StateDependent
from thorndike.types import Array

SPACES = (Discrete, MultiDiscrete, MultiBinary, Box, Mixed)  # of actions that a `PolicyHead` has a distribution of


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Actions:
    """A hashable description of an action space, and the map between network units and the environment's.

    Networks see each dimension of a Box with two `bounds` as [-1, 1], and one without bounds as it is. With one bound b
    their 0 is b + 1 or b - 1, and the unit stays: a new Gaussian policy is clipped at b in a sixth of its actions, and
    not in half or all of them. For whole numbers [-1, 1] is [low - 1/2, high + 1/2], so that each has an equal part of
    it once actions are rounded (`thorndike.envs.batched.to_environment`). A dimension whose bounds are equal has a
    scale of 1 (1/2 for whole numbers): whatever a network says there is clipped.
    """

    kind: str  # "discrete", "multidiscrete", "multibinary", "box" or "joint"
    shape: tuple[int, ...]
    sizes: tuple[int, ...] = ()  # choices per dimension
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    parts: tuple[Actions, ...] = ()  # of a joint action: its vector has one after the other

    @staticmethod
    def of(space: Space) -> Actions:
        """Describe a Gymnasium action space."""
        if isinstance(space, Discrete):
            return Actions("discrete", (), (int(space.n),))
        if isinstance(space, MultiDiscrete):
            return Actions("multidiscrete", tuple(space.shape), tuple(int(n) for n in space.nvec.ravel()))
        if isinstance(space, MultiBinary):
            return Actions("multibinary", tuple(space.shape), (2,) * int(np.prod(space.shape)))
        if isinstance(space, Mixed):
            parts = tuple(Actions.of(part) for part in space.parts)
            widths = [s.stop - s.start for s in space.slices]
            origin = tuple(x for part, n in zip(parts, widths) for x in part.centre or (0.0,) * n)
            unit = tuple(x for part, n in zip(parts, widths) for x in part.scale or (1.0,) * n)
            return Actions("joint", space.shape, (), origin, unit, parts)
        assert isinstance(space, Box), space
        low, high = (bound.ravel() for bound in bounds(space))
        half = 0.5 if space.dtype.kind in "iub" else 0.0
        below, above = np.isfinite(low), np.isfinite(high)
        finite = below & above
        low, high = np.where(below, low, 0.0), np.where(above, high, 0.0)
        centre = np.where(finite, (high + low) / 2, np.where(below, low + 1, np.where(above, high - 1, 0.0)))
        scale = np.where(finite & (high - low + half > 0), (high - low) / 2 + half, 1.0)
        return Actions("box", tuple(space.shape), (), tuple(centre.tolist()), tuple(scale.tolist()))

    @property
    def dimensions(self) -> int:
        """How many numbers a policy network has to emit."""
        if self.kind == "joint":
            return sum(part.dimensions for part in self.parts)
        return (
            len(self.centre)
            if self.kind == "box"
            else len(self.sizes)
            if self.kind == "multibinary"
            else sum(self.sizes)
        )

    @property
    def reals(self) -> int:
        """How many dimensions are of a Box: each has a standard deviation."""
        return len(self.centre) if self.kind == "box" else sum(part.reals for part in self.parts)

    @property
    def choices(self) -> int:
        """The entries of a mask."""
        if self.kind == "joint":
            return sum(part.choices for part in self.parts)
        return sum(self.sizes)

    def to_environment(self, action: Array) -> Array:
        """From network units [..., D] to the environment's [..., *shape]."""
        if self.scale:
            action = action * jnp.asarray(self.scale) + jnp.asarray(self.centre)
        flat = action.ndim - (0 if self.kind == "discrete" else 1)
        return action.reshape((*action.shape[:flat], *self.shape))

    def from_environment(self, action: Array) -> Array:
        """The inverse of `to_environment`."""
        if self.kind == "discrete":
            return action
        action = action.reshape((*action.shape[: action.ndim - len(self.shape)], -1))
        return (action - jnp.asarray(self.centre)) / jnp.asarray(self.scale) if self.scale else action


def bounds(space: Box) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest actions as float64, infinite where there is no bound.

    The largest numbers of floats and of whole numbers from 32 bits on are no bounds, but a way to write infinity; so is
    whatever is beyond 1e30.
    """
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if space.dtype.kind == "f":
        most = min(float(np.finfo(space.dtype).max), 1e30)
        least = -most
    elif space.dtype.itemsize >= 4:
        least, most = float(np.iinfo(space.dtype).min), float(np.iinfo(space.dtype).max)
    else:
        return low, high
    least = least if least < 0 else -np.inf  # 0 is a bound of unsigned numbers
    return np.where(low <= least, -np.inf, low), np.where(high >= most, np.inf, high)


class PolicyHead(eqx.Module):
    """Features [..., F] to a distribution over legal actions; a Gaussian's log standard deviation is a free parameter.

    Masks are [..., A] (`thorndike.envs.masks`). With state-dependent exploration, of a Box, that parameter is log σ
    [F, D], and the variance Σ_i φ_i(s)² σ_i² (`thorndike.ops.noise.StateDependent`); no gradient goes from it to the
    features, as in Raffin et al. (2021)'s own code.
    """

    linear: Dense
    log_std: Array | None
    actions: Actions = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        features: int,
        space: Space,
        log_std: float = 0.0,
        exploration: StateDependent | None = None,
    ):
        self.actions = Actions.of(space)
        self.linear = Dense(key, features, self.actions.dimensions, gain=0.01)
        self.log_std = jnp.full(self.actions.reals, log_std) if self.actions.reals else None
        if exploration is not None:
            self.log_std = jnp.full((features, self.actions.dimensions), jnp.float32(exploration.log_std))

    def __call__(self, features: Array, mask: Array | None = None):
        log_std = self.log_std
        if log_std is not None and log_std.ndim == 2:
            log_std = spread(features, log_std)
        return distribution(self.actions, self.linear(features), log_std, mask)

    def explored(self, features: Array, noise: Array) -> Array:
        """Actions [E, D] of state-dependent exploration, for ε [E, F, D]."""
        assert self.log_std is not None
        return self.linear(features) + jnp.einsum("ef,efd->ed", features, jnp.exp(self.log_std) * noise)


def spread(features: Array, log_std: Array) -> Array:
    """½ log Σ_i φ_i² σ_i² [..., D], the log standard deviation of φᵀ (σ ⊙ ε), for φ [..., F] and log σ [F, D]."""
    variance = jax.lax.stop_gradient(features) ** 2 @ jnp.exp(2.0 * log_std)
    return 0.5 * jnp.log(variance + 1e-6)


def distribution(actions: Actions, out: Array, log_std: Array | None, mask: Array | None):
    """The distribution that a network's numbers [..., dimensions] stand for; log_std [reals], mask [..., choices]."""
    if actions.kind == "joint":
        found, at, real, choice = [], 0, 0, 0
        for part in actions.parts:
            stds = None if log_std is None else log_std[real : real + part.reals]
            legal = None if mask is None or not part.choices else mask[..., choice : choice + part.choices]
            found.append(distribution(part, out[..., at : at + part.dimensions], stds, legal))
            at, real, choice = at + part.dimensions, real + part.reals, choice + part.choices
        return Joint(tuple(found))
    if log_std is not None and actions.kind == "box":
        return Normal(out, log_std)
    if mask is not None and actions.kind == "multibinary":
        zero, one = jnp.moveaxis(mask.reshape((*out.shape, 2)), -1, 0)  # whether a bit may be 0, and 1
        out = jnp.where(one, jnp.where(zero, out, -ILLEGAL), ILLEGAL)
    elif mask is not None:
        out = jnp.where(mask.reshape(out.shape), out, ILLEGAL)
    if actions.kind == "discrete":
        return Categorical(out)
    if actions.kind == "multibinary":
        return Bernoulli(out)
    most = max(actions.sizes)
    starts = np.cumsum((0, *actions.sizes))
    pad = [(0, 0)] * (out.ndim - 1)
    rows = [
        jnp.pad(out[..., a:b], [*pad, (0, most - (b - a))], constant_values=ILLEGAL)
        for a, b in itertools.pairwise(starts)
    ]
    return MultiCategorical(jnp.stack(rows, -2))
