"""What a Q-network says of each action: the mean of its return, or the distribution of it.

A head is a config that builds the layers above the torso, and knows what their numbers mean: their mean Q(s, a), the
target that they are moved to, and the loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.configuration import config, require
from thorndike.domains import Positive
from thorndike.nets.mlp import Dense
from thorndike.nets.noisy import NoisyLinear
from thorndike.ops.distributional import divergence, midpoints, project, quantile_huber
from thorndike.ops.losses import huber
from thorndike.ops.rescaling import squashed, unsquashed
from thorndike.ops.returns import td_target
from thorndike.types import Array, Metrics

WIDEST = 512  # units of a stream's hidden layer


class Values(NamedTuple):
    """What an `Implicit` head says."""

    numbers: Array  # quantiles of each action [..., A, N], or of one action [..., N]
    fractions: Array  # τ [..., N], at which they are


class Stream(eqx.Module):
    """A hidden layer with a ReLU, and a linear one: features [..., F] to numbers [..., outputs]."""

    hidden: Dense | NoisyLinear
    last: Dense | NoisyLinear

    def __init__(self, key: Array, inputs: int, outputs: int, noisy: Any, init: str):
        hkey, lkey = jax.random.split(key)
        width = min(inputs, WIDEST)
        self.hidden = layer(hkey, inputs, width, noisy, init)
        self.last = layer(lkey, width, outputs, noisy, init)

    def __call__(self, x: Array, key: Array | None = None) -> Array:
        hkey, lkey = (None, None) if key is None else jax.random.split(key)
        return _applied(self.last, jax.nn.relu(_applied(self.hidden, x, hkey)), lkey)


class Layers(eqx.Module):
    """The layers of a head: features [..., F] to numbers of each action, [..., A], or with N > 0 [..., A, N].

    Dueling (Wang et al. 2016, eq. 9): V(s) + A(s, a) - mean_a' A(s, a'), of N numbers each; of logits, before the
    softmax, as in Rainbow.
    """

    advantage: Any  # of each action: a `Stream`, or one layer where there is neither dueling nor noise
    value: Stream | None  # with dueling
    actions: int = eqx.field(static=True)
    numbers: int = eqx.field(static=True)  # N, of each action

    def __init__(self, key: Array, features: int, actions: int, numbers: int, dueling: bool, noisy: Any, init: str):
        akey, vkey = jax.random.split(key)
        n = max(1, numbers)
        if dueling or noisy is not None:
            self.advantage = Stream(akey, features, actions * n, noisy, init)
        else:
            self.advantage = Dense(akey, features, actions * n, init=init)
        self.value = Stream(vkey, features, n, noisy, init) if dueling else None
        self.actions, self.numbers = actions, numbers

    def __call__(self, x: Array, key: Array | None = None) -> Array:
        akey, vkey = (None, None) if key is None else jax.random.split(key)
        every = _applied(self.advantage, x, akey).reshape(*x.shape[:-1], self.actions, -1)
        if self.value is not None:
            every = self.value(x, vkey)[..., None, :] + every - every.mean(-2, keepdims=True)
        return every if self.numbers else every[..., 0]


class ImplicitLayers(eqx.Module):
    """Layers that are told at which fractions τ quantiles are wanted (Dabney et al. 2018b, eq. 4).

    Their features are ψ(s) ⊙ relu(W φ(τ) + b), φ_i(τ) = cos(π i τ), i = 0, 1, ...
    """

    embedding: Dense
    layers: Layers
    samples: int = eqx.field(static=True)
    acting: int = eqx.field(static=True)

    def __call__(self, x: Array, key: Array | None = None) -> Values:
        """Quantiles [..., A, N] at N random fractions, other ones in each row; without a key at the middles of equal
        parts."""
        if key is None:
            lkey, tau = None, jnp.broadcast_to(midpoints(self.acting), (*x.shape[:-1], self.acting))
        else:
            lkey, tkey = jax.random.split(key)
            tau = jax.random.uniform(tkey, (*x.shape[:-1], self.samples))
        waves = jnp.cos(jnp.pi * jnp.arange(self.embedding.weight.shape[0]) * tau[..., None])  # [..., N, waves]
        features = x[..., None, :] * jax.nn.relu(self.embedding(waves))  # [..., N, F]
        return Values(jnp.moveaxis(self.layers(features, lkey), -2, -1), tau)


def layer(key: Array, inputs: int, outputs: int, noisy: Any, init: str) -> Dense | NoisyLinear:
    """One layer; a noisy one where σ₀ is given."""
    if noisy is None:
        return Dense(key, inputs, outputs, init=init)
    return NoisyLinear(key, inputs, outputs, noisy)


def _applied(layer: Any, x: Array, key: Array | None) -> Array:
    return layer(x) if isinstance(layer, Dense) else layer(x, key)


@config
class Mean:
    """Q(s, a) itself, as one number."""

    rescaled: bool = False  # the network says h(Q), h(x) = sign(x) (√(|x| + 1) - 1) + x / 1000 (Pohlen et al. 2018)

    def build(self, key: Array, features: int, actions: int, dueling: bool, noisy: Any, init: str):
        """The layers above `features`: one linear layer where there is neither dueling nor noise."""
        if dueling or noisy is not None:
            return Layers(key, features, actions, 0, dueling, noisy, init)
        return Dense(key, features, actions, init=init)

    def mean(self, values: Any) -> Array:
        """Q [...]."""
        return unsquashed(values) if self.rescaled else values

    def pick(self, values: Any, action: Array) -> Any:
        """Of one action, [...]."""
        return select(values, action)

    def target(self, after: Any, reward: Array, terminated: Array, discount: Array | float) -> Array:
        """r + γ (1 - terminated) Q(s', a'), as the network says it, [...]."""
        target = td_target(reward, self.mean(after), terminated, discount)
        return squashed(target) if self.rescaled else target

    def loss(self, chosen: Any, target: Array, delta: Array | float) -> tuple[Array, Array]:
        """Huber's loss and the error δ = target - Q(s, a), [...]."""
        error = target - chosen
        return huber(error, delta), error

    def distribution(self, values: Any) -> tuple[()]:
        """Not known."""
        return ()


@config
class Categorical:
    """The probabilities of fixed returns, the atoms: C51 (Bellemare et al. 2017).

    Returns outside [low, high] cannot be told from those at its ends: choose them by the rewards and γ. Where the
    metric `train/end_atoms` is near 1, they are too narrow.
    """

    atoms: int = 51
    low: float = -10.0  # the least return that it knows
    high: float = 10.0  # the greatest

    def check(self) -> None:
        """Two atoms or more, in rising order."""
        require(self.atoms > 1, f"head.atoms must be 2 or more, got {self.atoms}")
        low, high = jnp.broadcast_arrays(jnp.asarray(self.low), jnp.asarray(self.high))
        require(bool((low < high).all()), f"head.low must lie below head.high, got {self.low} and {self.high}")

    @property
    def support(self) -> Array:
        """The atoms z, [N]."""
        return self.low + (self.high - self.low) * jnp.linspace(0.0, 1.0, self.atoms)

    def build(self, key: Array, features: int, actions: int, dueling: bool, noisy: Any, init: str) -> Layers:
        """The layers above `features`; their numbers are logits."""
        return Layers(key, features, actions, self.atoms, dueling, noisy, init)

    def mean(self, values: Any) -> Array:
        """Σ_i z_i p_i, [...] of logits [..., N]."""
        return jax.nn.softmax(values) @ self.support

    def pick(self, values: Any, action: Array) -> Any:
        """Of one action, [..., N]."""
        return select(jnp.swapaxes(values, -1, -2), action[..., None])

    def target(self, after: Any, reward: Array, terminated: Array, discount: Array | float) -> Array:
        """r + γ (1 - terminated) z with the probabilities at s', projected onto the atoms, [..., N]."""
        values = _shifted(jnp.broadcast_to(self.support, after.shape), reward, terminated, discount)
        return project(values, jax.nn.softmax(after), self.support)

    def loss(self, chosen: Any, target: Array, delta: Array | float) -> tuple[Array, Array]:
        """KL(target ‖ p), and the error of the mean, [...]."""
        return divergence(target, chosen), target @ self.support - self.mean(chosen)

    def distribution(self, values: Any) -> tuple[Array, Array]:
        """Returns and their probabilities, [..., N] each."""
        return jnp.broadcast_to(self.support, values.shape), jax.nn.softmax(values)


@config
class Quantiles:
    """Quantiles of the return at the middles of n equal parts of [0, 1]: QR-DQN (Dabney et al. 2018a).

    Quantiles do not see returns of a probability below 1 / 2n, nor does the mean over them. With κ as large as returns
    they become expectiles, which do.
    """

    n: int = 50
    kappa: Positive = 1.0  # κ: |error| beyond which the loss is linear, in units of reward

    def check(self) -> None:
        """One quantile or more."""
        require(self.n > 0, f"head.n must be 1 or more, got {self.n}")

    def build(self, key: Array, features: int, actions: int, dueling: bool, noisy: Any, init: str) -> Layers:
        """The layers above `features`."""
        return Layers(key, features, actions, self.n, dueling, noisy, init)

    def mean(self, values: Any) -> Array:
        """Mean over quantiles, [...]."""
        return values.mean(-1)

    def pick(self, values: Any, action: Array) -> Any:
        """Of one action, [..., N]."""
        return select(jnp.swapaxes(values, -1, -2), action[..., None])

    def target(self, after: Any, reward: Array, terminated: Array, discount: Array | float) -> Array:
        """r + γ (1 - terminated) θ_j(s', a'), [..., N]."""
        return _shifted(after, reward, terminated, discount)

    def loss(self, chosen: Any, target: Array, delta: Array | float) -> tuple[Array, Array]:
        """The quantile Huber loss, and the error of the mean, [...]."""
        return quantile_huber(chosen, midpoints(self.n), target, self.kappa), target.mean(-1) - chosen.mean(-1)

    def distribution(self, values: Any) -> tuple[Array, Array]:
        """Returns and their probabilities, [..., N] each."""
        return values, jnp.full(values.shape, 1.0 / values.shape[-1])


@config
class Implicit:
    """Quantiles of the return at any fractions that are asked for: IQN (Dabney et al. 2018b)."""

    samples: int = 64  # random fractions of an update, of the chosen action and of the target each
    acting: int = 32  # fractions, evenly spread, whose mean actions are chosen by
    waves: int = 64  # cosines that a fraction is shown as
    kappa: Positive = 1.0  # κ: |error| beyond which the loss is linear, in units of reward

    def check(self) -> None:
        """Positive sizes."""
        require(min(self.samples, self.acting, self.waves) > 0, "head.samples, acting and waves must be 1 or more")

    def build(self, key: Array, features: int, actions: int, dueling: bool, noisy: Any, init: str) -> ImplicitLayers:
        """The layers above `features`."""
        ekey, lkey = jax.random.split(key)
        layers = Layers(lkey, features, actions, 0, dueling, noisy, init)
        return ImplicitLayers(Dense(ekey, self.waves, features, init=init), layers, self.samples, self.acting)

    def mean(self, values: Any) -> Array:
        """Mean over the fractions, [...]."""
        return values.numbers.mean(-1)

    def pick(self, values: Any, action: Array) -> Any:
        """Of one action, [..., N]."""
        return Values(select(jnp.swapaxes(values.numbers, -1, -2), action[..., None]), values.fractions)

    def target(self, after: Any, reward: Array, terminated: Array, discount: Array | float) -> Array:
        """r + γ (1 - terminated) Z_τ'(s', a'), [..., N]."""
        return _shifted(after.numbers, reward, terminated, discount)

    def loss(self, chosen: Any, target: Array, delta: Array | float) -> tuple[Array, Array]:
        """The quantile Huber loss at these fractions, and the error of the mean, [...]."""
        each = quantile_huber(chosen.numbers, chosen.fractions, target, self.kappa)
        return each, target.mean(-1) - chosen.numbers.mean(-1)

    def distribution(self, values: Any) -> tuple[Array, Array]:
        """Returns and their probabilities, [..., N] each."""
        return values.numbers, jnp.full(values.numbers.shape, 1.0 / values.numbers.shape[-1])


Head = Mean | Categorical | Quantiles | Implicit


def saturation(head: Head, target: Array) -> Metrics:
    """How much of the targets lies on the first and the last atom, as a metric: near 1 where returns leave
    [low, high], which must then be wider."""
    return {"end_atoms": (target[..., 0] + target[..., -1]).mean()} if isinstance(head, Categorical) else {}


def _shifted(values: Array, reward: Array, terminated: Array, discount: Array | float) -> Array:
    """r + γ (1 - terminated) z for each z of [..., N]."""
    discount = jnp.asarray(discount)
    discount = discount[..., None] if discount.ndim else discount
    return td_target(reward[..., None], values, terminated[..., None], discount)


def select(values: Array, action: Array) -> Array:
    """values[..., action], [...]."""
    return jnp.where(action[..., None] == jnp.arange(values.shape[-1]), values, 0.0).sum(-1)
