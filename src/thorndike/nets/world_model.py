"""A world model: what is seen becomes a state, and a state says what is seen, earned, and whether all goes on."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium import Space

from thorndike.nets.decoder import Decoder, smaller
from thorndike.nets.rssm import RSSM, Latent, Stack
from thorndike.nets.torso import Network, Torso
from thorndike.ops.distributions import OneHot
from thorndike.ops.twohot import Bins
from thorndike.types import Array, PyTree, Transition


class Size(NamedTuple):
    """How large a world model is; the heads of policy and value have as many units and layers as the decoder."""

    memory: int  # D
    units: int  # of each hidden layer
    choices: int  # S
    classes: int  # C
    blocks: int  # of the cell's matrices
    layers: int  # of encoder, decoder, policy and value
    depth: int  # channels of a picture's last layer but one


class Path(NamedTuple):
    """States around each step, [T, B, ...]."""

    before: Latent  # in which the action was taken
    after: Latent  # to which it led
    begun: Latent  # what `before` is where the step is an episode's first
    prior: OneHot  # of `after`, from what was remembered
    posterior: OneHot  # of `after`, from the observation too


class Losses(NamedTuple):
    """For each step, [T, B]."""

    decoder: Array
    reward: Array
    going: Array
    dynamics: Array
    representation: Array


class WorldModel(eqx.Module):
    """Encoder, recurrent state-space model, and decoder, reward and continuation as heads of (h, z)."""

    encoder: Network
    rssm: RSSM
    decoder: Decoder
    reward_net: Stack
    going_net: Stack
    space: Space = eqx.field(static=True)
    bins: Bins = eqx.field(static=True)

    def __init__(self, key: Array, space: Space, actions: int, size: Size, bins: Bins):
        """For observations of `space` and actions of so many numbers; rewards as distributions over `bins`."""
        ekey, skey, dkey, rkey, gkey = jax.random.split(key, 5)
        self.space, self.bins = space, bins
        torso = Torso(widths=(size.units,) * size.layers, activation="silu", norm="layer")
        self.encoder = torso.build(ekey, space)
        memory, units, choices, classes = size[:4]
        self.rssm = RSSM(skey, self.encoder.features, actions, memory, choices, classes, units, size.blocks)
        features = memory + choices * classes
        self.decoder = Decoder(dkey, features, space, units, size.layers, size.depth)
        self.reward_net = Stack(rkey, features, units, 1, bins.count, gain=0.0)
        self.going_net = Stack(gkey, features, units, 1, 1)

    def see(self, obs: PyTree) -> Array:
        """Features of observations [..., *shape]."""
        return self.encoder(smaller(self.space, obs))

    def reward(self, state: Latent) -> Array:
        """What is earned by arriving at a state, [...]."""
        return self.bins.decode(self.reward_net(state.features))

    def going(self, state: Latent) -> Array:
        """The probability that a state is not the end of its episode, [...]."""
        return jax.nn.sigmoid(self.going_net(state.features)[..., 0])

    def arrive(self, memory: Array, seen: Array, key: Array | None, share: Array | float) -> tuple[Latent, OneHot]:
        """The state at h [..., D] that shows this [..., seen], drawn or the likeliest; and q."""
        q = self.rssm.posterior(memory, seen, share)
        return Latent(memory, q.mode() if key is None else q.sample(key)), q

    def path(self, steps: Transition, action: Array, start: Latent, key: Array, share: Array | float) -> Path:
        """The states along stored steps [T, B, ...].

        Each has its observation and its true successor, so there is a state on either side of it: one before the
        action, which is the one that the step before led to, or, where an episode begins, what is seen without a
        memory; and one after it, which has seen what the action led to, be it the last of an episode.

        Args:
            steps: `obs`, `first` and `next_obs`.
            action: [T, B, A].
            start: `before` at the first step [B, ...].
            key: draws the states.
            share: ε of `unimix`.
        """
        length = steps.reward.shape[0]
        bkey, key = jax.random.split(key)
        there = self.see(steps.next_obs)
        begun, _ = self.arrive(self.rssm.start(*steps.reward.shape).memory, self.see(steps.obs), bkey, share)

        def step(state: Latent, now: tuple[Latent, Array, Array, Array, Array]):
            begun, first, action, there, key = now
            before = Latent(*(jnp.where(first[:, None], new, old) for new, old in zip(begun, state)))
            after, q = self.arrive(self.rssm.step(before, action), there, key, share)
            return after, (before, after, q)

        inputs = (begun, steps.first, action, there, jax.random.split(key, length))
        before, after, posterior = jax.lax.scan(step, start, inputs)[1]
        return Path(before, after, begun, self.rssm.prior(after.memory, share), posterior)

    def losses(self, path: Path, steps: Transition, free: Array | float) -> Losses:
        """How wrong the heads are of what was seen, earned and went on at each arrival, and the KL divergences.

        An observation that begins an episode was arrived at by no step; its state is to show it too.
        """
        after = path.after.features
        begun = jnp.where(steps.first, self.decoder.loss(path.begun.features, steps.obs), 0.0)
        logit = self.going_net(after)[..., 0]
        return Losses(
            self.decoder.loss(after, steps.next_obs) + begun,
            self.bins.loss(self.reward_net(after), steps.reward),
            jax.nn.softplus(logit) - jnp.where(steps.terminated, 0.0, logit),
            *divergences(path.posterior, path.prior, free),
        )


def divergences(posterior: OneHot, prior: OneHot, free: Array | float) -> tuple[Array, Array]:
    """max(ε, KL(sg(q) || p)), which teaches the prior, and max(ε, KL(q || sg(p))), which teaches the posterior, [...].

    (Hafner et al. 2023, eq. 5.) `free` is ε, in nats: what is below it is good enough.
    """
    fixed_q, fixed_p = jax.lax.stop_gradient((posterior, prior))
    return jnp.maximum(fixed_q.kl(prior), free), jnp.maximum(posterior.kl(fixed_p), free)
