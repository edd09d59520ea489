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

from thorndike.configuration import config
from thorndike.domains import NonNegative
from thorndike.nets.curiosity import encoder
from thorndike.nets.mlp import Dense
from thorndike.ops.losses import Added
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

    def build(self, key: Array, features: int, spec: Spec) -> Ahead:
        """The layers above `features`; their outputs are features."""
        return Ahead(key, features, spec, features)

    def loss(self, layers: Ahead, torso: Any, steps: Told) -> tuple[Array, Metrics]:
        """The error times `weight`, and metrics; `torso(obs)` are features [..., F]."""
        found = layers(torso(steps.obs), steps.action)
        target = jax.lax.stop_gradient(torso(steps.next_obs))
        error = 1.0 - (unit(found) * unit(target)).sum(-1).mean()
        return self.weight * error, {"auxiliary_loss": error}


Auxiliary = RewardPrediction | SelfPrediction


def layers(auxiliary: Auxiliary | None, key: Array, network: Any, spec: Spec) -> PyTree:
    """What an auxiliary loss has above the torso of a network; () without a loss."""
    return () if auxiliary is None else auxiliary.build(key, below(network).features, spec)


def taught(auxiliary: Auxiliary | None, steps: Told) -> tuple[Added, ...]:
    """An auxiliary loss of the policy's torso beside another loss, with its layers beside θ; nothing without one."""

    def loss(params: Any, layers: Any, pi: Any, rows: Told) -> tuple[Array, Metrics]:
        return auxiliary.loss(layers, below(params.policy.torso), rows)  # type: ignore[union-attr]

    return () if auxiliary is None else (Added(loss, steps),)


def misfit(spec: Spec) -> str | None:
    """None where these losses can read the actions, else one sentence."""
    if isinstance(spec.action, (Discrete, MultiDiscrete, MultiBinary, Box)):
        return None
    return f"auxiliary losses do not know how to read actions of {spec.action}: leave auxiliary out"


def balance(rare: Array) -> Array:
    """Weights [...] of mean 1 by which both kinds of rows count the same; all 1 where there is one kind only."""
    share = rare.mean()
    both = (share > 0) & (share < 1)
    each = jnp.where(rare, 0.5 / jnp.maximum(share, 1e-8), 0.5 / jnp.maximum(1.0 - share, 1e-8))
    return jnp.where(both, each, 1.0)


def unit(x: Array) -> Array:
    """Vectors [..., F] of length 1; those of zeros stay."""
    return x * jax.lax.rsqrt(jnp.maximum((x**2).sum(-1, keepdims=True), 1e-12))


def below(network: Any) -> Any:
    """The torso below the memory of a network that remembers, or the network itself."""
    return network.torso if hasattr(network, "after") else network
