"""A policy and a critic, with memory or without: what policy-gradient methods have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.nets.mlp import Dense
from thorndike.nets.policy import PolicyHead
from thorndike.nets.recurrent import GRU, LSTM, Recurrent, after, ahead, last, unroll
from thorndike.nets.torso import Network, Torso
from thorndike.nets.transformer import GTrXL, Transformer
from thorndike.ops.noise import StateDependent
from thorndike.ops.statistics import normalise_tree
from thorndike.types import Array, Look, PyTree, Rollout, Spec, Timestep

Core = GRU | LSTM | GTrXL  # memory behind a torso


class Policy(eqx.Module):
    """π(a | s)."""

    torso: Network | Recurrent | Transformer
    head: PolicyHead


class Critic(eqx.Module):
    """V(s); without a torso of its own it reads the policy's features."""

    torso: Network | Recurrent | Transformer | None
    head: Dense


class Carry(NamedTuple):
    """What the networks remember of the episode, [E, ...]; () for those without memory."""

    policy: PyTree
    critic: PyTree
    noise: PyTree = ()  # of state-dependent exploration; acting alone knows it


class Params(NamedTuple):
    """What the optimiser moves: θ (policy) and φ (critic)."""

    policy: Policy
    critic: Critic

    def __call__(self, obs: PyTree, mask: Array | None, first: Array, carry: Carry) -> tuple[Any, Array, Carry]:
        """π(a | s), V(s) and the trails of both memories; obs, mask and first [T, E, ...], carry [E, ...]."""
        features, policy_trail = unroll(self.policy.torso, obs, first, carry.policy)
        pi, critic_trail = self.policy.head(features, mask), ()
        if self.critic.torso is not None:
            features, critic_trail = unroll(self.critic.torso, obs, first, carry.critic)
        return pi, self.critic.head(features)[..., 0], Carry(policy_trail, critic_trail)

    def ahead(self, obs: PyTree, trail: Carry) -> Array:
        """V at observations [T, E, ...], each one step on from a step of the trail, in the same episode."""
        if self.critic.torso is None:
            return self.critic.head(ahead(self.policy.torso, trail.policy, obs))[..., 0]
        return self.critic.head(ahead(self.critic.torso, trail.critic, obs))[..., 0]

    def last(self, trail: Carry, n: int) -> Carry:
        """The trails of the last n steps alone."""
        return Carry(last(self.policy.torso, trail.policy, n), last(self.critic.torso, trail.critic, n))


class Actor(NamedTuple):
    """What acting needs: the networks, and the statistics that their observations are normalised with."""

    policy: Policy
    critic: Critic
    statistics: PyTree
    scale: Array  # of values: what rewards were divided by


def networks(
    key: Array,
    spec: Spec,
    torso: Torso,
    core: Core | None,
    shared: bool,
    log_std: float,
    critic_torso: Torso | None = None,
    exploration: StateDependent | None = None,
) -> Params:
    """Both networks: each with a torso of its own and the core behind it where there is one, or one torso for both.

    `log_std` is the initial log standard deviation of continuous actions, in units of half the range; state-dependent
    exploration has its own. The critic's torso is like the policy's unless `critic_torso` says what it is.
    """

    def features(key: Array, torso: Torso) -> Network | Recurrent | Transformer:
        tkey, ckey = jax.random.split(key)
        network = torso.build(tkey if core else key, spec.observation)
        return core.build(ckey, network) if core else network

    pkey, hkey, ckey, vkey = jax.random.split(key, 4)
    below = features(pkey, torso)
    policy = Policy(below, PolicyHead(hkey, below.features, spec.action, log_std, exploration))
    own = None if shared else features(ckey, critic_torso or torso)
    return Params(policy, Critic(own, Dense(vkey, (own or below).features, 1)))


def blank(core: Core | None, shared: bool, n: int) -> Carry:
    """The carry of n environments before anything was seen: zeros for every network that remembers."""
    if core is None:
        return Carry((), ())
    return Carry(core.carry(n), () if shared else core.carry(n))


def look(actor: Actor, carry: Carry, now: Timestep) -> tuple[Look, Carry]:
    """π(· | s) and V(s)."""
    _, seen, carry = think(actor, carry, now)
    return seen, carry


def think(actor: Actor, carry: Carry, now: Timestep) -> tuple[Array, Look, Carry]:
    """The policy's features [E, F], π(· | s) and V(s)."""
    obs = jax.tree.map(lambda x: x[None], normalise_tree(actor.statistics, now.obs))
    features, trail = unroll(actor.policy.torso, obs, now.first[None], carry.policy)
    policy_features = features[0]
    pi, policy_carry = actor.policy.head(policy_features, now.info.get("mask")), after(actor.policy.torso, trail)
    critic_carry: PyTree = ()
    if actor.critic.torso is not None:
        features, trail = unroll(actor.critic.torso, obs, now.first[None], carry.critic)
        critic_carry = after(actor.critic.torso, trail)
    value = actor.scale * actor.critic.head(features[0])[..., 0]
    return policy_features, Look(pi, value), Carry(policy_carry, critic_carry, carry.noise)


def act(
    actor: Actor, carry: Carry, now: Timestep, key: Array, explore: bool, exploration: StateDependent | None = None
):
    """Sample from the policy, or take its mode; `extras["log_prob"]` is log π(a | s).

    State-dependent exploration draws from the same distribution, but keeps its noise for some steps.
    """
    features, seen, carry = think(actor, carry, now)
    if explore and exploration is not None:
        carry = carry._replace(noise=exploration.draw(key, carry.noise, now.first))
        action = actor.policy.head.explored(features, carry.noise.noise)
    else:
        action = seen.pi.sample(key) if explore else seen.pi.mode()
    return actor.policy.head.actions.to_environment(action), carry, {"log_prob": seen.pi.log_prob(action)}


def values(params: Params, statistics: PyTree, rollout: Rollout) -> tuple[Array, Array]:
    """V(s) and V at the true successors, each [T, E].

    The latter are the values of the steps that follow, unless an episode was cut: then all successors are looked at.
    """
    steps = rollout.steps
    _, value, trail = params(normalise_tree(statistics, steps.obs), None, steps.first, rollout.carry)

    def following():
        final = jax.tree.map(lambda x: x[None], normalise_tree(statistics, rollout.last.obs))
        return jnp.concatenate([value[1:], params.ahead(final, params.last(trail, 1))])

    def looked_at():
        return params.ahead(normalise_tree(statistics, steps.next_obs), trail)

    return value, jax.lax.cond(steps.truncated.any(), looked_at, following)
