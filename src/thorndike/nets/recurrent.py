"""Memory between a torso and its heads: a GRU or an LSTM, unrolled over time and begun anew with each episode."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.nets.torso import Network
from thorndike.types import Array, PyTree


@config
class GRU:
    """Gated recurrent unit (Cho et al. 2014)."""

    width: int = 64

    def check(self) -> None:
        """At least one unit."""
        require(self.width > 0, f"GRU.width must be positive, got {self.width}")

    def carry(self, n: int) -> Array:
        """The memory of n environments before their first step: zeros [n, width]."""
        return jnp.zeros((n, self.width))

    def build(self, key: Array, torso: Network) -> Recurrent:
        """The torso with this memory behind it."""
        return Recurrent(torso, eqx.nn.GRUCell(torso.features, self.width, key=key), self.width)


@config
class LSTM:
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    width: int = 64

    def check(self) -> None:
        """At least one unit."""
        require(self.width > 0, f"LSTM.width must be positive, got {self.width}")

    def carry(self, n: int) -> tuple[Array, Array]:
        """The memory of n environments before their first step: zeros [n, width], twice."""
        return jnp.zeros((n, self.width)), jnp.zeros((n, self.width))

    def build(self, key: Array, torso: Network) -> Recurrent:
        """The torso with this memory behind it."""
        return Recurrent(torso, eqx.nn.LSTMCell(torso.features, self.width, key=key), self.width)


class Recurrent(eqx.Module):
    """A network that remembers: observations [T, E, ...] to features [T, E, width]."""

    torso: Network
    cell: eqx.nn.GRUCell | eqx.nn.LSTMCell
    features: int = eqx.field(static=True)

    def __call__(self, obs: PyTree, first: Array, carry: PyTree) -> tuple[Array, PyTree]:
        """Features [T, E, width], and the carry after each step [T, E, ...].

        Args:
            obs: [T, E, ...].
            first: bool [T, E]; where true, an episode begins and what was remembered is forgotten.
            carry: [E, ...], from before the first of these steps.
        """

        def step(carry: PyTree, now: tuple[Array, Array]):
            x, first = now
            carry = jax.tree.map(lambda c: jnp.where(first[:, None], 0.0, c), carry)
            carry = jax.vmap(self.cell)(x, carry)
            return carry, carry

        _, carries = jax.lax.scan(step, carry, (self.torso(obs), first))
        return jax.tree.leaves(carries)[0], carries  # an LSTM's output is the first of its two


def unroll(network: Network | Recurrent, obs: PyTree, first: Array, carry: PyTree) -> tuple[Array, PyTree]:
    """Features [T, E, F] of any network, and the carry after each step [T, E, ...]: () without memory."""
    return network(obs, first, carry) if isinstance(network, Recurrent) else (network(obs), ())
