"""A policy without a critic: what learners that imitate have, whomever they imitate."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.nets.observations import shown
from thorndike.nets.policy import PolicyHead
from thorndike.nets.torso import Network, Torso, example
from thorndike.ops.optimise import begin
from thorndike.ops.statistics import normalise_tree, running_tree
from thorndike.types import Array, Clock, Look, PyTree, Spec, Timestep


class Policy(eqx.Module):
    """π(a | s)."""

    torso: Network
    head: PolicyHead

    def __call__(self, obs: PyTree, mask: Array | None = None, key: Array | None = None) -> Any:
        """The distribution of actions at normalised observations [B, ...]; with a key, dropout is active."""
        return self.head(self.torso(obs, key=key), mask)


class Actor(NamedTuple):
    """What acting needs: the policy, and the statistics that its observations are normalised with."""

    policy: Policy
    statistics: PyTree


class State(NamedTuple):
    """All that changes."""

    policy: Policy
    optimiser: Any
    clock: Clock
    statistics: PyTree  # of observations; () where they are not normalised


def blank(key: Array, spec: Spec, torso: Torso, normalised: bool, log_std: Any, descent: Any) -> State:
    """A policy that has learned nothing, with its optimiser and statistics.

    Args:
        key: for the weights.
        spec: of the environment.
        torso: the network below the head.
        normalised: whether observations are normalised by running statistics.
        log_std: initial log standard deviation of continuous actions, in units of half the range.
        descent: the optimiser, of optax.
    """
    spec = shown(spec, normalised)
    tkey, hkey = jax.random.split(key)
    network = torso.build(tkey, spec.observation)
    policy = Policy(network, PolicyHead(hkey, network.features, spec.action, log_std))
    clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
    return State(policy, begin(descent, policy), clock, running_tree(example(spec.observation)) if normalised else ())


def look(actor: Actor, carry: PyTree, now: Timestep) -> tuple[Look, PyTree]:
    """π(· | s)."""
    return Look(actor.policy(normalise_tree(actor.statistics, now.obs), now.info.get("mask"))), carry


def act(actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool) -> tuple[Array, PyTree, dict[str, Any]]:
    """An action [B, ...] drawn from π, or its mode."""
    pi = look(actor, carry, now)[0].pi
    action = pi.sample(key) if explore else pi.mode()
    return actor.policy.head.actions.to_environment(action), carry, {}
