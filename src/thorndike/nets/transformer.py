"""A gated transformer as memory behind a torso: attention to the last steps of the same episode."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.domains import Static
from thorndike.nets.mlp import Dense, LayerNorm, orthogonal
from thorndike.nets.torso import Network
from thorndike.ops.distributions import ILLEGAL
from thorndike.types import Array, PyTree


class Window(NamedTuple):
    """The last M steps of E environments, the newest last: the acting memory."""

    inputs: Array  # of each layer, [E, M, L, W]
    there: Array  # which belong to the episode under way, bool [E, M]


class Trail(NamedTuple):
    """The window that a stretch of T steps began with, and those steps: what each may attend to."""

    inputs: Array  # of each layer, [E, M + T, L, W]
    episode: Array  # number of the episode that each belongs to, int32 [E, M + T]; -1: of one that is over


class Gate(eqx.Module):
    """r = σ(W_r y + U_r x);   z = σ(W_z y + U_z x - b);   h = tanh(W_h y + U_h (r x));   x' = (1 - z) x + z h."""

    inputs: Dense  # W: [W, 3 W], in the order r, z, h; its bias for z begins as -b
    kept: Array  # U_r and U_z, [W, 2 W]
    reset: Array  # U_h, [W, W]

    def __init__(self, key: Array, width: int, bias: float):
        wkey, *keys = jax.random.split(key, 4)
        self.inputs = Dense(wkey, width, 3 * width, init="xavier")
        starts = jnp.repeat(jnp.asarray([0.0, -bias, 0.0]), width)
        self.inputs = eqx.tree_at(lambda d: d.bias, self.inputs, starts)
        self.kept = jnp.concatenate([orthogonal(k, (width, width)) for k in keys[:2]], -1)
        self.reset = orthogonal(keys[2], (width, width))

    def __call__(self, x: Array, y: Array) -> Array:
        """x with as much of y let in as the gate says, [..., W]."""
        yr, yz, yh = jnp.split(self.inputs(y), 3, -1)
        xr, xz = jnp.split(x @ self.kept, 2, -1)
        new = jnp.tanh(yh + (jax.nn.sigmoid(yr + xr) * x) @ self.reset)
        return x + jax.nn.sigmoid(yz + xz) * (new - x)


class Layer(eqx.Module):
    """x = g(x, relu(attention(LN x))), then x = g(x, relu(dense(relu(dense(LN x)))))."""

    before: LayerNorm
    query: Dense
    keys: Dense  # keys and values, [W, 2 W]
    out: Dense
    distance: Array  # what is added to the score of a step so many steps ago, [heads, M + 1]
    gate: Gate
    between: LayerNorm
    wide: Dense
    narrow: Dense
    last_gate: Gate
    heads: int = eqx.field(static=True)

    def __init__(self, key: Array, width: int, heads: int, memory: int, bias: float):
        keys = jax.random.split(key, 7)
        self.before, self.between = LayerNorm(width), LayerNorm(width)
        self.query = Dense(keys[0], width, width, init="xavier")
        self.keys = Dense(keys[1], width, 2 * width, init="xavier")
        self.out = Dense(keys[2], width, width, init="xavier")
        self.distance = jnp.zeros((heads, memory + 1))
        self.gate, self.last_gate = Gate(keys[3], width, bias), Gate(keys[4], width, bias)
        self.wide = Dense(keys[5], width, 2 * width, init="xavier")
        self.narrow = Dense(keys[6], 2 * width, width, init="xavier")
        self.heads = heads

    def __call__(self, x: Array, past: Array, seen: Array, ago: Array, own: bool) -> Array:
        """The next layer's input [E, Q, W].

        Args:
            x: this layer's input of Q steps, [E, Q, W].
            past: this layer's input of the K steps that they may attend to, [E, K, W].
            seen: whether they may, bool [E, Q, K].
            ago: how many steps lie between, int32 [Q, K]; of those that are seen in [0, M].
            own: each step attends to itself as well: it is not among the K.
        """
        query, (keys, values) = self._split(self.query(self.before(x))), self._keys(past)
        scale = query.shape[-1] ** -0.5
        score = jnp.einsum("eqhw,ekhw->ehqk", query, keys) * scale
        score = score + self.distance[:, jnp.clip(ago, 0, self.distance.shape[1] - 1)]
        score = jnp.where(seen[:, None], score, ILLEGAL)
        if own:
            mine, value = self._keys(x)
            alone = jnp.einsum("eqhw,eqhw->ehq", query, mine) * scale + self.distance[:, :1]
            weight = jax.nn.softmax(jnp.concatenate([score, alone[..., None]], -1))
            found = jnp.einsum("ehqk,ekhw->eqhw", weight[..., :-1], values)
            found = found + weight[..., -1].swapaxes(1, 2)[..., None] * value
        else:
            found = jnp.einsum("ehqk,ekhw->eqhw", jax.nn.softmax(score), values)
        x = self.gate(x, jax.nn.relu(self.out(found.reshape(x.shape))))
        return self.last_gate(x, jax.nn.relu(self.narrow(jax.nn.relu(self.wide(self.between(x))))))

    def _keys(self, x: Array) -> tuple[Array, Array]:
        keys, values = jnp.split(self.keys(self.before(x)), 2, -1)
        return self._split(keys), self._split(values)

    def _split(self, x: Array) -> Array:
        """[E, Q, W] to heads [E, Q, heads, W / heads]."""
        return x.reshape((*x.shape[:-1], self.heads, -1))


@config
class GTrXL:
    """Gated Transformer-XL (Parisotto et al. 2020), with gates as in a GRU: attention to the last `memory` steps.

    Distances have a learned bias for each head in the place of Transformer-XL's sinusoids. What was remembered before
    a rollout has no gradient.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    memory: int = 64  # steps of the same episode that a step attends to, beside itself
    gate_bias: Static = 2.0  # the larger, the more a new layer passes its input on as it is

    def check(self) -> None:
        """Sizes that fit together."""
        require(min(self.width, self.layers, self.heads, self.memory) > 0, "GTrXL's sizes must be positive")
        require(self.width % self.heads == 0, f"GTrXL.width {self.width} must be a multiple of heads {self.heads}")

    def carry(self, n: int) -> Window:
        """The memory of n environments before their first step: of nothing."""
        inputs = jnp.zeros((n, self.memory, self.layers, self.width))
        return Window(inputs, jnp.zeros((n, self.memory), bool))

    def build(self, key: Array, torso: Network) -> Transformer:
        """The torso with this memory behind it."""
        ekey, *keys = jax.random.split(key, self.layers + 1)
        made = [Layer(k, self.width, self.heads, self.memory, self.gate_bias) for k in keys]
        return Transformer(torso, Dense(ekey, torso.features, self.width), tuple(made), self.width, self.memory)


class Transformer(eqx.Module):
    """A network that remembers: observations [T, E, ...] to features [T, E, width]."""

    torso: Network
    embed: Dense
    layers: tuple[Layer, ...]
    features: int = eqx.field(static=True)
    memory: int = eqx.field(static=True)

    def __call__(self, obs: PyTree, first: Array, carry: Window) -> tuple[Array, Trail]:
        """Features [T, E, width], and the trail of these steps.

        Args:
            obs: [T, E, ...].
            first: bool [T, E]; where true, an episode begins and nothing before it is attended to.
            carry: [E, ...], from before the first of these steps.
        """
        length, episode = first.shape[0], first.T.astype(jnp.int32).cumsum(-1)  # [E, T]; 0: the one under way before
        episode = jnp.concatenate([jnp.where(carry.there, 0, -1), episode], -1)
        at = self.memory + jnp.arange(length)  # of each step in the trail
        ago = at[:, None] - jnp.arange(self.memory + length)
        seen = self._seen(episode, episode[:, self.memory :], ago)
        x, trail = self.embed(self.torso(obs)).swapaxes(0, 1), []
        for i, layer in enumerate(self.layers):
            past = jnp.concatenate([jax.lax.stop_gradient(carry.inputs[:, :, i]), x], 1)
            trail.append(past)
            x = layer(x, past, seen, ago, own=False)
        return x.swapaxes(0, 1), Trail(jnp.stack(trail, 2), episode)

    def _seen(self, episode: Array, own: Array, ago: Array) -> Array:
        """Which steps of a trail are in the same episode and in reach, bool [E, Q, M + T]."""
        near = (ago >= 0) & (ago <= self.memory)
        return near & (episode[:, None, :] == own[:, :, None])

    def ahead(self, trail: Trail, obs: PyTree) -> Array:
        """Features [T, E, width] of observations [T, E, ...], each one step on from a step of the trail, in its
        episode."""
        length = trail.episode.shape[1] - self.memory
        ago = self.memory + 1 + jnp.arange(length)[:, None] - jnp.arange(self.memory + length)
        seen = self._seen(trail.episode, trail.episode[:, self.memory :], jnp.where(ago < 1, -1, ago))
        x = self.embed(self.torso(obs)).swapaxes(0, 1)
        for i, layer in enumerate(self.layers):
            x = layer(x, trail.inputs[:, :, i], seen, ago, own=True)
        return x.swapaxes(0, 1)

    def last(self, trail: Trail, n: int) -> Trail:
        """The trail of the last n steps alone."""
        return jax.tree.map(lambda x: x[:, -self.memory - n :], trail)

    def after(self, trail: Trail) -> Window:
        """The acting memory after the last step of a trail."""
        inputs, episode = (x[:, -self.memory :] for x in trail)
        return Window(inputs, episode == episode[:, -1:])
