"""A recurrent state-space model: what was seen is remembered in h, and what is seen is chosen as z.

h' = f(h, z, a),   z' ~ q(· | h', o') where o' is seen,   z' ~ p(· | h') where it is imagined

(Hafner et al. 2023, eq. 3). z is S one-hot vectors of C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.nets.mlp import Dense, orthogonal
from thorndike.ops.distributions import OneHot, unimix
from thorndike.types import Array


class Latent(NamedTuple):
    """A state of the model, its leading axes any."""

    memory: Array  # h [..., D]
    choice: Array  # z [..., S · C]

    @property
    def features(self) -> Array:
        """(h, z), what heads read [..., D + S · C]."""
        return jnp.concatenate(self, -1)


def normed(x: Array) -> Array:
    """x / sqrt(mean x² + 10⁻⁴) over the last axis (Zhang & Sennrich 2019), without a scale to learn."""
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-4)


class Stack(eqx.Module):
    """Hidden layers with normalisation and SiLU, and a linear one: [..., inputs] to [..., outputs]."""

    layers: tuple[Dense, ...]
    last: Dense

    def __init__(self, key: Array, inputs: int, units: int, layers: int, outputs: int, gain: float = 1.0):
        *keys, key = jax.random.split(key, layers + 1)
        sizes = (inputs, *(units,) * layers)
        self.layers = tuple(Dense(k, i, units) for k, i in zip(keys, sizes))
        self.last = Dense(key, sizes[-1], outputs, gain)

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = jax.nn.silu(normed(layer(x)))
        return self.last(x)


class Blocks(eqx.Module):
    """A linear layer whose matrix has G blocks on its diagonal: [..., G, in] to [..., G, out]."""

    weight: Array  # [G, in, out]
    bias: Array  # [G, out]

    def __init__(self, key: Array, blocks: int, inputs: int, outputs: int):
        self.weight = jax.vmap(lambda k: orthogonal(k, (inputs, outputs)))(jax.random.split(key, blocks))
        self.bias = jnp.zeros((blocks, outputs))

    def __call__(self, x: Array) -> Array:
        if self.weight.shape[0] == 1:
            return x @ self.weight[0] + self.bias
        return jnp.einsum("...gi,gio->...go", x, self.weight) + self.bias


class RSSM(eqx.Module):
    """The cell, the posterior q and the prior p."""

    entries: tuple[Dense, Dense, Dense]  # of h, z and a
    hidden: Blocks
    gates: Blocks
    prior_net: Stack
    posterior_net: Stack
    shape: tuple[int, int, int] = eqx.field(static=True)  # D, S, C

    def __init__(
        self, key: Array, seen: int, actions: int, memory: int, choices: int, classes: int, units: int, blocks: int
    ):
        """`seen`: features of an observation; `actions`: numbers of an action; `memory`, `choices`, `classes`: D, S,
        C; `blocks`: of the cell's matrices, a divisor of D."""
        keys = jax.random.split(key, 7)
        self.shape, z, part = (memory, choices, classes), choices * classes, memory // blocks
        e1, e2, e3 = (Dense(k, n, units) for k, n in zip(keys, (memory, z, actions)))
        self.entries = (e1, e2, e3)
        self.hidden = Blocks(keys[3], blocks, part + 3 * units, part)
        self.gates = Blocks(keys[4], blocks, part, 3 * part)
        self.prior_net = Stack(keys[5], memory, units, 1, z)
        self.posterior_net = Stack(keys[6], memory + seen, units, 1, z)

    def start(self, *lead: int) -> Latent:
        """The state before anything was seen: zeros."""
        memory, choices, classes = self.shape
        return Latent(jnp.zeros((*lead, memory)), jnp.zeros((*lead, choices * classes)))

    def step(self, state: Latent, action: Array) -> Array:
        """h' [..., D] of a state and an action [..., A].

        A GRU (Cho et al. 2014) of block-diagonal matrices, whose gate u is open less than half at first:
        h' = u tanh(r n) + (1 - u) h,   r = σ(·), u = σ(· - 1).
        """
        lead, blocks = state.memory.shape[:-1], self.hidden.weight.shape[0]
        action = action / jnp.maximum(1.0, jnp.abs(jax.lax.stop_gradient(action)))
        said = [jax.nn.silu(normed(entry(x))) for entry, x in zip(self.entries, (*state, action))]
        each = jnp.concatenate(said, -1)[..., None, :]  # for every block
        each = jnp.broadcast_to(each, (*lead, blocks, each.shape[-1]))
        x = jnp.concatenate([state.memory.reshape(*lead, blocks, -1), each], -1)
        x = jax.nn.silu(normed(self.hidden(x).reshape(*lead, -1)))
        gates = jnp.split(self.gates(x.reshape(*lead, blocks, -1)), 3, -1)
        reset, new, update = (gate.reshape(*lead, -1) for gate in gates)
        update = jax.nn.sigmoid(update - 1.0)
        return update * jnp.tanh(jax.nn.sigmoid(reset) * new) + (1.0 - update) * state.memory

    def prior(self, memory: Array, share: Array | float) -> OneHot:
        """p(z | h); `share` is ε of `unimix`."""
        return self._choices(self.prior_net(memory), share)

    def posterior(self, memory: Array, seen: Array, share: Array | float) -> OneHot:
        """q(z | h, o), by the features of an observation [..., seen]."""
        return self._choices(self.posterior_net(jnp.concatenate([memory, seen], -1)), share)

    def _choices(self, out: Array, share: Array | float) -> OneHot:
        return OneHot(unimix(out.reshape(*out.shape[:-1], *self.shape[1:]), share))
