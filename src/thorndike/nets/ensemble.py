"""Probabilistic ensembles: several networks that each say a Gaussian of every target, and how sure they are.

The spread of one network's Gaussian is chance in the data; that between the networks is what they do not know yet.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from thorndike.configuration import config, require
from thorndike.domains import Share
from thorndike.nets.mlp import MLP, Activation, Dense
from thorndike.types import Array

LEAST_LOG_VAR, MOST_LOG_VAR = -10.0, 0.5  # of standardised targets


class Said(NamedTuple):
    """What networks say of rows [...]: a Gaussian of each of D targets, and the log-odds of a yes."""

    mean: Array  # μ [..., D]
    log_var: Array  # log σ² [..., D]
    logit: Array  # [...]


class Member(eqx.Module):
    """One network: standardised inputs [..., F] to what it says of D targets and of a yes or no."""

    mlp: MLP
    head: Dense

    def __init__(self, key: Array, inputs: int, targets: int, widths: tuple[int, ...], activation: str):
        mkey, hkey = jax.random.split(key)
        self.mlp = MLP(mkey, (inputs, *widths), activation, "uniform")
        self.head = Dense(hkey, (inputs, *widths)[-1], 2 * targets + 1, init="uniform")

    def __call__(self, x: Array) -> Said:
        out = self.head(self.mlp(x))
        mean, log_var = jnp.split(out[..., :-1], 2, -1)
        return Said(mean, softly_bounded(log_var), out[..., -1])


def softly_bounded(x: Array) -> Array:
    """log σ² between its bounds, with a gradient everywhere (Chua et al. 2018, appendix A.1).

    x <- max - log(1 + exp(max - x));   x <- min + log(1 + exp(x - min))
    """
    x = MOST_LOG_VAR - jax.nn.softplus(MOST_LOG_VAR - x)
    return LEAST_LOG_VAR + jax.nn.softplus(x - LEAST_LOG_VAR)


@config
class Gaussians:
    """A probabilistic ensemble (Lakshminarayanan et al. 2017; as a model of dynamics: Chua et al. 2018).

    Each member has weights of its own, and learns from rows of its own: whether it does from a row is drawn once, with
    the row, and kept with it. What it does not learn from says how good it is, and so which members are the best.
    """

    members: int = 5  # K
    widths: tuple[int, ...] = (64, 64)  # of the layers of each
    activation: Activation = "silu"
    keep: Share = 0.8  # probability that a member learns from a row
    elites: int | None = None  # how many members, the best on what they did not learn from, predict; None: all

    def check(self) -> None:
        """Sizes that fit together."""
        require(self.members > 0, f"Gaussians.members must be positive, got {self.members}")
        require(all(w > 0 for w in self.widths), f"Gaussians.widths must be positive, got {self.widths}")
        if self.elites is not None:
            some = 0 < self.elites <= self.members
            require(some, f"Gaussians.elites are some of the {self.members} members, got {self.elites}")
            held = self.elites == self.members or float(np.max(self.keep)) < 1
            require(held, "Gaussians.elites are found by rows that members do not learn from: set keep below 1")

    @property
    def predicting(self) -> int:
        """How many members predict."""
        return self.members if self.elites is None else self.elites

    def build(self, key: Array, inputs: int, targets: int) -> Member:
        """The members, as one module whose leaves are [K, ...]."""
        keys = jax.random.split(key, self.members)
        return jax.vmap(lambda key: Member(key, inputs, targets, self.widths, self.activation))(keys)

    def masks(self, key: Array, n: int) -> Array:
        """Which members learn from each of n rows, bool [n, K]."""
        return jax.random.bernoulli(key, self.keep, (n, self.members))


def said(members: Member, x: Array) -> Said:
    """What each member says of its own rows x [K, ..., F]."""
    return jax.vmap(lambda member, x: member(x))(members, x)


def said_by_all(members: Member, x: Array) -> Said:
    """What every member says of the rows x [B, F]; leaves [K, B, ...]."""
    n = jax.tree.leaves(members)[0].shape[0]
    return said(members, jnp.broadcast_to(x, (n, *x.shape)))  # a copy for each: see `nets/continuous.values`


def likelihood_loss(found: Said, target: Array, yes: Array, masks: Array) -> Array:
    """The loss of each member [K] on the rows that it learns from, for targets [B, D], answers [B] and masks [B, K].

    L_k = mean over b with m_bk of   mean_d [(y - μ)² exp(-log σ²) + log σ²] + cross-entropy of the yes or no
    """
    rows = ((target - found.mean) ** 2 * jnp.exp(-found.log_var) + found.log_var).mean(-1)
    rows = rows + optax.sigmoid_binary_cross_entropy(found.logit, yes.astype(jnp.float32))
    return mean_where(rows, masks.T)


def held_out(found: Said, target: Array, masks: Array) -> tuple[Array, Array]:
    """The mean squared error of each member [K] on the rows that it does not learn from, and whether there are any."""
    return mean_where(((target - found.mean) ** 2).mean(-1), ~masks.T), (~masks).any(0)


def mean_where(rows: Array, mask: Array) -> Array:
    """The mean over the last axis of what the mask says; 0 where that is nothing."""
    return jnp.where(mask, rows, 0.0).sum(-1) / jnp.maximum(mask.sum(-1), 1)


def disagreement(found: Said) -> Array:
    """How far apart the members' means are, [B]: their standard deviation, in root mean square over the targets."""
    return jnp.sqrt(found.mean.var(0).mean(-1))
