"""A learned model of an environment: what a state and an action lead to, what that earns, and whether it is the end."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Box

from thorndike.nets.ensemble import Gaussians, Member, disagreement, held_out, likelihood_loss, said, said_by_all
from thorndike.nets.policy import Actions
from thorndike.ops.optimise import Adam, begin, descend
from thorndike.ops.statistics import Running, running
from thorndike.types import Array, Metrics, Spec, Transition

RATE = 0.02  # of the running mean of held-out errors


class Outcome(NamedTuple):
    """What a step leads to, [...]."""

    obs: Array  # s' [..., N]
    reward: Array
    end: Array  # the probability that the step terminates the episode


class Dynamics(NamedTuple):
    """An ensemble of K models, and what its inputs and targets are standardised with."""

    members: Member  # leaves [K, ...]
    inputs: Running  # of (s, a)  [N + D]
    targets: Running  # of (s' - s, r)  [N + 1]
    errors: Array  # the squared errors on what each member did not learn from, of standardised targets, [K]; 1 at first
    ended: Array  # whether any step has terminated an episode

    def best(self, n: int) -> Dynamics:
        """The n members with the least errors."""
        if n == self.errors.shape[0]:
            return self
        index = best_of(self.errors, n)
        return self._replace(members=jax.tree.map(lambda x: x[index], self.members), errors=self.errors[index])

    def step(self, obs: Array, action: Array, noise: Array) -> Outcome:
        """What each member expects of its own rows: states [K, ..., N], actions in network units [K, ..., D], and
        standard normal noise [K, ..., N + 1].

        (s' - s, r) = μ(s, a) + σ(s, a) ε

        Nothing ends while no step has ever terminated an episode. A policy would find the states where a network that
        never saw an end thinks of one, and go there to be spared what other states cost.
        """
        found = said(self.members, self.inputs.normalise(jnp.concatenate([obs, action], -1)))
        change = (found.mean + jnp.exp(0.5 * found.log_var) * noise) * self.targets.std + self.targets.mean
        return Outcome(obs + change[..., :-1], change[..., -1], jax.nn.sigmoid(found.logit) * self.ended)

    def doubt(self, obs: Array, action: Array) -> Array:
        """How far apart the members are at states [B, N] and actions [B, D], in deviations of the targets, [B]."""
        return disagreement(said_by_all(self.members, self.inputs.normalise(jnp.concatenate([obs, action], -1))))


def best_of(errors: Array, n: int) -> Array:
    """The indices of the n least errors, [n]."""
    return jax.lax.top_k(-errors, n)[1]


def unmodelled(name: str, spec: Spec) -> str | None:
    """None where observations are a vector of floats, else one sentence that says what does not fit."""
    space = spec.observation
    if isinstance(space, Box) and space.dtype.kind == "f" and len(space.shape) == 1:
        return None
    return f"{name}'s model predicts a vector of floats, and observations are {space}"


def create(model: Gaussians, key: Array, spec: Spec, learning_rate: Array | float) -> tuple[Dynamics, Any]:
    """Dynamics that know nothing yet, and their optimiser's state."""
    n, d = spec.observation.shape[0], Actions.of(spec.action).dimensions  # type: ignore[index]
    members = model.build(key, n + d, n + 1)
    optimiser = begin(Adam().build(learning_rate), members)
    # 1 is what the mean of the targets has: from 0 the running mean would say for a while that all is known.
    unknown = jnp.ones(model.members)
    return Dynamics(members, running((n + d,)), running((n + 1,)), unknown, jnp.bool_(False)), optimiser


def learn(
    dynamics: Dynamics, optimiser: Any, batch: Transition, action: Array, learning_rate: Array | float
) -> tuple[Dynamics, Any, Metrics]:
    """Dynamics after one step on a batch [B], whose actions in network units are `action` [B, D].

    `batch.extras["members"]` [B, K] says which members learn from which row.
    """
    x, masks = jnp.concatenate([batch.obs, action], -1), batch.extras["members"]
    y = targets_of(batch)
    inputs, targets = dynamics.inputs.update(x), dynamics.targets.update(y)
    x, y = inputs.normalise(x), (y - targets.mean) / targets.std

    def loss(members: Member):
        found = said_by_all(members, x)
        each = likelihood_loss(found, y, batch.terminated, masks)
        return each.sum(), (each.mean(), *held_out(found, y, masks), disagreement(found).mean())

    (_, (total, error, any_row, apart)), gradient = jax.value_and_grad(loss, has_aux=True)(dynamics.members)
    members, optimiser, norms = descend(Adam().build(learning_rate), gradient, optimiser, dynamics.members)
    errors = dynamics.errors + RATE * jnp.where(any_row, error - dynamics.errors, 0.0)
    metrics = {"model_loss": total, "model_error": errors.mean(), "disagreement": apart, **norms}
    ended = dynamics.ended | batch.terminated.any()
    return Dynamics(members, inputs, targets, errors, ended), optimiser, metrics


def targets_of(batch: Transition) -> Array:
    """(s' - s, r), [B, N + 1]: of a slow system the change says what the successor alone hardly would."""
    return jnp.concatenate([batch.next_obs - batch.obs, batch.reward[:, None]], -1)
