"""A model in latent space: what is seen becomes a vector z, and all that follows is said of z."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium import Space

from thorndike.nets.mlp import MLP, Activation, Dense
from thorndike.nets.torso import Network, Torso
from thorndike.types import Array, PyTree


def normalised(z: Array) -> Array:
    """Each vector [..., Z] less its mean, by its standard deviation: what the dynamics give is of the same size
    however often they are applied.

    Scaling to [0, 1] by the least and the largest number (Schrittwieser et al. 2020, appendix G) has that too, but
    leaves a fifth of the spread around a common mean, and hands the gradient of both ends to one number each.
    """
    z = z - z.mean(-1, keepdims=True)
    return z * jax.lax.rsqrt((z**2).mean(-1, keepdims=True) + 1e-5)


def halved(z: PyTree) -> PyTree:
    """The same, with half of its gradient."""
    return jax.tree.map(lambda x: 0.5 * x + jax.lax.stop_gradient(0.5 * x), z)


class Representation(eqx.Module):
    """z⁰ = h(o), normalised."""

    torso: Network
    out: Dense

    def __init__(self, key: Array, torso: Torso, space: Space, latent: int):
        tkey, okey = jax.random.split(key)
        self.torso = torso.build(tkey, space)
        self.out = Dense(okey, self.torso.features, latent)

    def __call__(self, obs: PyTree) -> Array:
        """Observations [..., *space.shape] to z [..., Z]."""
        return normalised(self.out(self.torso(obs)))


class Dynamics(eqx.Module):
    """z', u = g(z, a): the latent state after an action, normalised, and logits of the reward."""

    body: MLP
    out: Dense
    reward: Dense

    def __init__(self, key: Array, latent: int, actions: int, widths: Sequence[int], activation: Activation, bins: int):
        bkey, okey, rkey = jax.random.split(key, 3)
        self.body = MLP(bkey, (latent + actions, *widths), activation)
        self.out = Dense(okey, widths[-1], latent)
        self.reward = Dense(rkey, widths[-1], bins, gain=0.01)

    def __call__(self, z: Array, action: Array) -> tuple[Array, Array]:
        """z [..., Z] and actions as numbers [..., D] to z' [..., Z] and logits [..., M]."""
        features = self.body(jnp.concatenate([z, action], -1))
        return normalised(self.out(features)), self.reward(features)


class Prediction(eqx.Module):
    """p, v = f(z): logits of actions, and logits of the value."""

    body: MLP
    policy: Dense
    value: Dense

    def __init__(self, key: Array, latent: int, actions: int, widths: Sequence[int], activation: Activation, bins: int):
        bkey, pkey, vkey = jax.random.split(key, 3)
        self.body = MLP(bkey, (latent, *widths), activation)
        self.policy = Dense(pkey, widths[-1], actions, gain=0.01)
        self.value = Dense(vkey, widths[-1], bins, gain=0.01)

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """z [..., Z] to logits [..., A] and [..., M]."""
        features = self.body(z)
        return self.policy(features), self.value(features)
