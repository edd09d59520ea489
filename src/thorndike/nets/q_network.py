"""Q-networks: a torso, the memory behind it where there is one, and a head for the actions."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.nets.recurrent import GRU, LSTM, Recurrent, unroll
from thorndike.nets.torso import Network, Torso
from thorndike.nets.value import Head
from thorndike.types import Array, PyTree, Spec


class QNetwork(eqx.Module):
    """What the head says of each action, [T, E, A] or [T, E, A, N]."""

    torso: Network | Recurrent
    head: Any  # the layers that the head's config builds

    def __init__(
        self, key: Array, torso: Torso, core: GRU | LSTM | None, head: Head, dueling: bool, noisy: Any, spec: Spec
    ):
        tkey, hkey = jax.random.split(key)
        network = torso.build(tkey, spec.observation)
        self.torso = core.build(jax.random.fold_in(tkey, 1), network) if core else network
        actions = int(spec.action.n)  # type: ignore[attr-defined]
        self.head = head.build(hkey, self.torso.features, actions, dueling, noisy, torso.init)

    def __call__(self, obs: PyTree, first: Array, carry: PyTree, key: Array | None = None) -> tuple[Any, PyTree]:
        """The head's numbers [T, E, ...] and the carry after each step; obs and first [T, E, ...], carry [E, ...].

        `key` draws what is random in the head, one noise for all; without it nothing is.
        """
        features, carries = unroll(self.torso, obs, first, carry)
        return self.head(features) if key is None else self.head(features, key), carries

    def seen(self, obs: PyTree) -> Array:
        """The features of observations [T, E, ...], below the memory."""
        return (self.torso.torso if isinstance(self.torso, Recurrent) else self.torso)(obs)

    def now(self, obs: PyTree, first: Array, carry: PyTree, key: Array | None = None) -> tuple[Any, PyTree]:
        """The same of one step, [E, ...]; here `key` draws a noise for each environment."""
        obs, first = jax.tree.map(lambda x: x[None], (obs, first))
        features, carries = unroll(self.torso, obs, first, carry)
        if key is None:
            values = jax.tree.map(lambda x: x[0], self.head(features))
        else:
            values = jax.vmap(self.head)(features[0], jax.random.split(key, features.shape[1]))
        return values, jax.tree.map(lambda c: c[0], carries)

    def here_and_there(self, steps: Any, carry: PyTree, key: Array | None = None) -> tuple[Any, Any]:
        """What the head says at s and at s', [T, B, ...]: s' is one step on from the carry after s, in the same
        episode."""
        hkey, tkey = (None, None) if key is None else jax.random.split(key)
        here, carries = self(steps.obs, steps.first, carry, hkey)
        flat = lambda x: x.reshape((-1, *x.shape[2:]))  # noqa: E731
        obs, carry = jax.tree.map(lambda x: flat(x)[None], steps.next_obs), jax.tree.map(flat, carries)
        there, _ = self(obs, jnp.zeros((1, steps.reward.size), bool), carry, tkey)
        return here, jax.tree.map(lambda x: x.reshape((*steps.reward.shape, *x.shape[2:])), there)
