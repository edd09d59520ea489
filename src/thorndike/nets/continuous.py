"""Policies and critics for continuous actions: what SAC, TD3 and their relatives have in common.

Networks see actions as [-1, 1]; see `thorndike.nets.policy.Actions`. A method's critics are one module whose leaves
have a leading axis [N].
"""

from __future__ import annotations

from functools import reduce

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from thorndike.nets.mlp import Dense
from thorndike.nets.policy import Actions, bounds
from thorndike.nets.torso import Network, Torso
from thorndike.ops.distributions import TanhNormal
from thorndike.ops.noise import StateDependent
from thorndike.text import brief
from thorndike.types import Array, PyTree, Spec

LEAST_LOG_STD, MOST_LOG_STD = -20.0, 2.0  # before the tanh
CLIPPED_MEAN = 2.0  # the largest mean before the tanh, with state-dependent exploration


class Policy(eqx.Module):
    """π(a | s), a tanh-Gaussian; actions in (-1, 1).

    Its standard deviations are outputs of the network, or those of state-dependent exploration (see
    `thorndike.ops.noise.StateDependent`), where log σ [F, D] is a parameter.
    """

    torso: Network
    head: Dense
    log_std: Array | None  # log σ
    actions: Actions = eqx.field(static=True)

    def __init__(self, key: Array, torso: Torso, spec: Spec, exploration: StateDependent | None = None):
        tkey, hkey = jax.random.split(key)
        self.actions = Actions.of(spec.action)
        self.torso = torso.build(tkey, spec.observation)
        features, d = self.torso.features, self.actions.dimensions
        self.head = Dense(hkey, features, d if exploration else 2 * d, init="uniform")
        self.log_std = jnp.full((features, d), jnp.float32(exploration.log_std)) if exploration else None

    def __call__(self, obs: PyTree) -> TanhNormal:
        return self.of(self.torso(obs))

    def of(self, features: Array) -> TanhNormal:
        """π by the features of states [..., F]."""
        out = self.head(features)
        if self.log_std is None:
            mean, log_std = jnp.split(out, 2, -1)
            return TanhNormal(mean, jnp.clip(log_std, LEAST_LOG_STD, MOST_LOG_STD))
        variance = features**2 @ jnp.exp(2.0 * self.log_std)
        log_std = jnp.clip(0.5 * jnp.log(variance + 1e-6), LEAST_LOG_STD, MOST_LOG_STD)
        return TanhNormal(jnp.clip(out, -CLIPPED_MEAN, CLIPPED_MEAN), log_std)

    def explored(self, obs: PyTree, noise: Array) -> Array:
        """Actions in (-1, 1) of state-dependent exploration, for ε [E, F, D]."""
        assert self.log_std is not None
        features = self.torso(obs)
        pi = self.of(features)
        shift = jnp.einsum("ef,efd->ed", features, jnp.exp(self.log_std) * noise)
        spread = jnp.sqrt(features**2 @ jnp.exp(2.0 * self.log_std) + 1e-6)  # that of `shift` over draws of ε
        return jnp.tanh(pi.mean + jnp.exp(pi.log_std) * shift / spread)


class Deterministic(eqx.Module):
    """μ(s), actions in (-1, 1), [..., D]."""

    torso: Network
    head: Dense
    actions: Actions = eqx.field(static=True)

    def __init__(self, key: Array, torso: Torso, spec: Spec):
        tkey, hkey = jax.random.split(key)
        self.actions = Actions.of(spec.action)
        self.torso = torso.build(tkey, spec.observation)
        self.head = Dense(hkey, self.torso.features, self.actions.dimensions, init="uniform")

    def __call__(self, obs: PyTree) -> Array:
        return jnp.tanh(self.head(self.torso(obs)))


class Critic(eqx.Module):
    """Q(s, a), [...]; with `outputs` so many numbers of it, [..., outputs]."""

    torso: Network
    head: Dense
    outputs: int | None = eqx.field(static=True)

    def __init__(self, key: Array, torso: Torso, spec: Spec, outputs: int | None = None):
        tkey, hkey = jax.random.split(key)
        self.torso = torso.build(tkey, spec.observation, extra=Actions.of(spec.action).dimensions)
        self.head = Dense(hkey, self.torso.features, outputs or 1, init="uniform")
        self.outputs = outputs

    def __call__(self, obs: PyTree, action: Array, key: Array | None = None) -> Array:
        out = self.head(self.torso(obs, action, key))
        return out[..., 0] if self.outputs is None else out


def stacked(keys: Array, torso: Torso, spec: Spec, outputs: int | None = None) -> Critic:
    """A critic for each key [N], as one module with leaves [N, ...]."""
    return jax.vmap(lambda key: Critic(key, torso, spec, outputs))(keys)


def values(critics: Critic, obs: PyTree, action: Array, key: Array | None = None) -> Array:
    """Q_i(s, a), [N, B], of critics whose leaves are [N, ...]; with a key, dropout is active, for each its own.

    Every critic gets a copy of its input: with one for all, XLA makes the first layers one product and turns its axes.
    """
    n = jax.tree.leaves(critics)[0].shape[0]
    copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), (obs, action))
    keys = None if key is None else jax.random.split(key, n)
    return jax.vmap(lambda critic, *inputs: critic(*inputs))(critics, *copies, *(() if keys is None else (keys,)))


def least(q: Array) -> Array:
    """min_i Q_i(s, a), [B], of [N, B].

    In pairs: the gradient of one minimum of all divides by how many values equal it, and where XLA computes a value
    twice, rounded in two ways, none does.
    """
    return reduce(jnp.minimum, q)


def unsuited(name: str, policy: str, spec: Spec) -> str | None:
    """None where actions are a Box with finite bounds, else one sentence that says what does not fit.

    `policy` says what the algorithm called `name` has for one.
    """
    if not isinstance(spec.action, Box):
        return f"{name}'s policy is {policy}, and {brief(spec.action)} is not a Box"
    if not np.isfinite(bounds(spec.action)).all():
        return f"{name} squashes actions into finite bounds, and {brief(spec.action)} lacks some"
    return None
