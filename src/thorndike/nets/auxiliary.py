"""Auxiliary losses: what a torso's features should know besides values and actions.

A loss has layers of its own above the features of the torso, and its gradient goes through both. It never meets the
agent's heads, and acting does not use it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.configuration import config, require
from thorndike.domains import NonNegative
from thorndike.nets.curiosity import encoder
from thorndike.nets.decoder import Decoder
from thorndike.nets.mlp import Dense
from thorndike.nets.policy import PolicyHead
from thorndike.types import Array, Metrics, PyTree, Spec


class Told(NamedTuple):
    """The steps [...] that a loss is computed on."""

    obs: PyTree  # as the torso sees them
    action: Array  # as the algorithm knows them
    reward: Array
    next_obs: PyTree


class Ahead(eqx.Module):
    """From features [..., F] and an action to numbers [..., outputs], by one hidden layer."""

    encode: Any
    hidden: Dense
    last: Dense

    def __init__(self, key: Array, features: int, spec: Spec, outputs: int):
        hkey, lkey = jax.random.split(key)
        self.encode = encoder(spec.action)
        self.hidden = Dense(hkey, features + self.encode.features, features)
        self.last = Dense(lkey, features, outputs)

    def __call__(self, features: Array, action: Array) -> Array:
        x = jnp.concatenate([features, self.encode(action)], -1)
        return self.last(jax.nn.relu(self.hidden(x)))


@config
class RewardPrediction:
    """Which sign the reward of a step has, from the features at s and the action (Jaderberg et al. 2017, section 3.2).

    L = -E[ w log p(sign r | φ(s), a) ]

    Where a batch has rewards of 0 and others, w makes both kinds weigh the same: the paper draws them equally often.
    It tells features apart by what they earn long before values do, where rewards are rare.
    """

    weight: NonNegative = 1.0  # of the loss beside the algorithm's own

    def supports(self, spec: Spec) -> str | None:
        """Actions that are numbers or choices."""
        return unread(spec)

    def build(self, key: Array, features: int, spec: Spec) -> Ahead:
        """The layers above `features`; their outputs are the logits of -, 0 and +."""
        return Ahead(key, features, spec, 3)

    def loss(self, layers: Ahead, torso: Any, steps: Told) -> tuple[Array, Metrics]:
        """The weighted cross-entropy times `weight`, and metrics; `torso(obs)` are features [..., F]."""
        sign = jnp.sign(steps.reward)
        log_p = jax.nn.log_softmax(layers(torso(steps.obs), steps.action))
        chosen = (jax.nn.one_hot(sign.astype(jnp.int32) + 1, 3) * log_p).sum(-1)
        error = -(balance(sign != 0) * chosen).mean()
        return self.weight * error, {"auxiliary_loss": error}


@config
class SelfPrediction:
    """The features at s', from those at s and the action, as in SPR (Schwarzer et al. 2021) with one step.

    L = E[ 1 - cos( f(φ(s), a), φ(s') ) ],   no gradient goes to φ(s')

    The paper's own target network is a copy of the torso where pictures are augmented, as here; its projections and
    its further steps are left out. What no action and no state foretells, such as noise in a picture, is not worth
    keeping in such features.
    """

    weight: NonNegative = 1.0  # of the loss beside the algorithm's own

    def supports(self, spec: Spec) -> str | None:
        """Actions that are numbers or choices."""
        return unread(spec)

    def build(self, key: Array, features: int, spec: Spec) -> Ahead:
        """The layers above `features`; their outputs are features."""
        return Ahead(key, features, spec, features)

    def loss(self, layers: Ahead, torso: Any, steps: Told) -> tuple[Array, Metrics]:
        """The error times `weight`, and metrics; `torso(obs)` are features [..., F]."""
        found = layers(torso(steps.obs), steps.action)
        target = jax.lax.stop_gradient(torso(steps.next_obs))
        error = 1.0 - (unit(found) * unit(target)).sum(-1).mean()
        return self.weight * error, {"auxiliary_loss": error}


class Between(eqx.Module):
    """From features [..., F] at s and at s' to a distribution of the actions between, by one hidden layer."""

    hidden: Dense
    head: PolicyHead

    def __init__(self, key: Array, features: int, spec: Spec):
        hkey, akey = jax.random.split(key)
        self.hidden = Dense(hkey, 2 * features, features)
        self.head = PolicyHead(akey, features, spec.action)

    def __call__(self, here: Array, there: Array) -> Any:
        return self.head(jax.nn.relu(self.hidden(jnp.concatenate([here, there], -1))))


@config
class InverseDynamics:
    """Which action led from s to s', from the features at both (Pathak et al. 2017, equation 2).

    L = -E[ log p(a | φ(s), φ(s')) ]

    What an agent cannot change, such as noise in a picture, is no help for it; nor is what it cannot change yet.
    """

    weight: NonNegative = 1.0  # of the loss beside the algorithm's own

    def build(self, key: Array, features: int, spec: Spec) -> Between:
        """The layers above `features`; they end in a distribution of actions."""
        return Between(key, features, spec)

    def loss(self, layers: Between, torso: Any, steps: Told) -> tuple[Array, Metrics]:
        """The error times `weight`, and metrics; `torso(obs)` are features [..., F]."""
        error = -layers(torso(steps.obs), torso(steps.next_obs)).log_prob(steps.action).mean()
        return self.weight * error, {"auxiliary_loss": error}


@config
class Reconstruction:
    """The observation itself, from its features, as autoencoders have them (Lange & Riedmiller 2010).

    L = E[ mean over pixels and numbers of ( d(φ(s)) - s )² ]

    Pixels are in [0, 1]; of large numbers the error is small (`Decoder`). All that there is to see has its share in it,
    and so has noise, on which the features are wasted.
    """

    weight: NonNegative = 1.0  # of the loss beside the algorithm's own
    layers: int = 1  # hidden ones, for all but pictures
    depth: int = 16  # channels of a picture's last layer but one

    def check(self) -> None:
        """Positive sizes."""
        require(min(self.layers, self.depth) > 0, "Reconstruction.layers and depth must be positive")

    def build(self, key: Array, features: int, spec: Spec) -> Decoder:
        """The layers above `features`; their outputs are an observation."""
        return Decoder(key, features, spec.observation, features, self.layers, self.depth)

    def loss(self, layers: Decoder, torso: Any, steps: Told) -> tuple[Array, Metrics]:
        """The error times `weight`, and metrics; `torso(obs)` are features [..., F]."""
        error = layers.loss(torso(steps.obs), steps.obs).mean() / layers.numbers
        return self.weight * error, {"auxiliary_loss": error}


def unread(spec: Spec) -> str | None:
    """None where actions can be read as vectors, else one sentence."""
    if isinstance(spec.action, (Discrete, MultiDiscrete, MultiBinary, Box)):
        return None
    return f"this auxiliary loss does not know how to read actions of {spec.action}: leave it out"


def balance(rare: Array) -> Array:
    """Weights [...] of mean 1 by which both kinds of rows count the same; all 1 where there is one kind only."""
    share = rare.mean()
    both = (share > 0) & (share < 1)
    each = jnp.where(rare, 0.5 / jnp.maximum(share, 1e-8), 0.5 / jnp.maximum(1.0 - share, 1e-8))
    return jnp.where(both, each, 1.0)


def unit(x: Array) -> Array:
    """Vectors [..., F] of length 1; those of zeros stay."""
    return x * jax.lax.rsqrt(jnp.maximum((x**2).sum(-1, keepdims=True), 1e-12))
