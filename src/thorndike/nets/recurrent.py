"""Memory between a torso and its heads: a GRU or an LSTM, unrolled over time and begun anew with each episode."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.nets.mlp import Dense, orthogonal
from thorndike.nets.torso import Network
from thorndike.types import Array, PyTree


class GRUCell(eqx.Module):
    """r, z = σ(W x + U h + b);   n = tanh(W_n x + b_n + r (U_n h + c));   h' = n + z (h - n)."""

    inputs: Dense  # W, b: [in, 3 width], in the order r, z, n
    recurrent: Array  # U, [width, 3 width]
    bias: Array  # c, [width]

    def __call__(self, x: Array, h: Array) -> Array:
        """h' [..., width] from W x + b [..., 3 width] and h [..., width]."""
        xr, xz, xn = jnp.split(x, 3, -1)
        hr, hz, hn = jnp.split(h @ self.recurrent, 3, -1)
        new = jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * (hn + self.bias))
        return new + jax.nn.sigmoid(xz + hz) * (h - new)


class LSTMCell(eqx.Module):
    """i, f, o = σ(W x + U h + b);   c' = f c + i tanh(W_g x + U_g h + b_g);   h' = o tanh(c')."""

    inputs: Dense  # W, b: [in, 4 width], in the order i, f, g, o
    recurrent: Array  # U, [width, 4 width]

    def __call__(self, x: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        """(h', c') [..., width] from W x + b [..., 4 width] and (h, c) [..., width]."""
        h, c = carry
        i, f, g, o = jnp.split(x + h @ self.recurrent, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _weights(key: Array, inputs: int, width: int, gates: int) -> tuple[Dense, Array]:
    """W with b, and an orthogonal U for each gate."""
    key, *keys = jax.random.split(key, gates + 1)
    linear = Dense(key, inputs, gates * width, init="uniform")
    return linear, jnp.concatenate([orthogonal(k, (width, width)) for k in keys], -1)


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
        cell = GRUCell(*_weights(key, torso.features, self.width, 3), jnp.zeros(self.width))
        return Recurrent(torso, cell, self.width)


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
        return Recurrent(torso, LSTMCell(*_weights(key, torso.features, self.width, 4)), self.width)


class Recurrent(eqx.Module):
    """A network that remembers: observations [T, E, ...] to features [T, E, width]."""

    torso: Network
    cell: GRUCell | LSTMCell
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
            carry = self.cell(x, carry)
            return carry, carry

        inputs = self.cell.inputs(self.torso(obs))  # of all steps in one product
        _, carries = jax.lax.scan(step, carry, (inputs, first))
        return jax.tree.leaves(carries)[0], carries  # an LSTM's output is the first of its two

    def ahead(self, trail: PyTree, obs: PyTree) -> Array:
        """Features [T, E, width] of observations [T, E, ...], each one step on from a carry of the trail."""
        lead = jax.tree.leaves(trail)[0].shape[:2]
        flat = lambda x: x.reshape((-1, *x.shape[2:]))  # noqa: E731
        obs, carry = jax.tree.map(lambda x: flat(x)[None], obs), jax.tree.map(flat, trail)
        features, _ = self(obs, jnp.zeros((1, lead[0] * lead[1]), bool), carry)
        return features.reshape((*lead, -1))

    def last(self, trail: PyTree, n: int) -> PyTree:
        """The trail of the last n steps alone."""
        return jax.tree.map(lambda c: c[-n:], trail)

    def after(self, trail: PyTree) -> PyTree:
        """The acting memory after the last step of a trail."""
        return jax.tree.map(lambda c: c[-1], trail)


def unroll(network: Any, obs: PyTree, first: Array, carry: PyTree) -> tuple[Array, PyTree]:
    """Features [T, E, F] of any network, and the trail of its memory over these steps: () without memory.

    A trail is what the three functions below need to go on from any of these steps. Of a GRU or LSTM it is the carry
    after each of them [T, E, ...].
    """
    return network(obs, first, carry) if hasattr(network, "after") else (network(obs), ())


def ahead(network: Any, trail: PyTree, obs: PyTree) -> Array:
    """Features of observations [T, E, ...], each one step on from a step of the trail, in the same episode."""
    return network.ahead(trail, obs) if hasattr(network, "after") else network(obs)


def last(network: Any, trail: PyTree, n: int) -> PyTree:
    """The trail of the last n steps alone."""
    return network.last(trail, n) if hasattr(network, "after") else ()


def after(network: Any, trail: PyTree) -> PyTree:
    """The acting memory after the last step of a trail."""
    return network.after(trail) if hasattr(network, "after") else ()
