"""Losses of learning a distribution of returns: on fixed atoms, and by its quantiles."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from thorndike.configuration import config
from thorndike.domains import Share
from thorndike.types import Array


@config
class CVaR:
    """The mean of the worst returns, of probability α together: what a cautious agent chooses actions by (Dabney et al.
    2018b, section 3.1, with β(τ) = α τ). α = 1 is the mean of all."""

    level: Share = 0.25  # α

    def __call__(self, values: Array, probabilities: Array) -> Array:
        """CVaR_α [...] of distributions on `values` [..., N] with `probabilities` [..., N]."""
        return cvar(values, probabilities, self.level)


def cvar(values: Array, probabilities: Array, level: Array | float) -> Array:
    """Conditional value at risk: 1/α ∫_0^α F⁻¹(τ) dτ, the mean of the least values of probability α together, [...].

    Args:
        values: [..., N], in any order.
        probabilities: of each [..., N]; they sum to 1.
        level: α in (0, 1].
    """
    order = jnp.argsort(values, axis=-1)
    values, p = (jnp.take_along_axis(x, order, -1) for x in (values, probabilities))
    before = jnp.cumsum(p, -1) - p  # of all lower values
    share = jnp.clip(level - before, 0.0, p)
    return (share * values).sum(-1) / share.sum(-1)


def project(values: Array, probabilities: Array, atoms: Array) -> Array:
    """The distribution on `atoms` that is nearest to one on other values (Bellemare et al. 2017, eq. 7).

    (Φ Z)_i = Σ_j [1 - |clip(y_j, z_1, z_M) - z_i| / Δz]₀¹ p_j: each mass goes to the two atoms around its value, the
    more the nearer, and what lies outside goes to the ends. The mean is kept where nothing does.

    Args:
        values: y [..., N], in any order.
        probabilities: p [..., N].
        atoms: z [M], rising in equal steps Δz.

    Returns:
        Probabilities of the atoms [..., M].
    """
    step, last = atoms[1] - atoms[0], atoms.shape[0] - 1
    place = (jnp.clip(values, atoms[0], atoms[-1]) - atoms[0]) / step  # in atoms, from 0
    rows = jnp.clip(place, 0, last).reshape(-1, place.shape[-1])  # [B, N, M] below is far faster than [1, B, N, M]
    share = jnp.clip(1.0 - jnp.abs(rows[:, :, None] - jnp.arange(last + 1.0)), 0.0, 1.0)
    mass = jnp.einsum("bn,bnm->bm", probabilities.reshape(rows.shape), share)
    return mass.reshape(*values.shape[:-1], last + 1)


def divergence(target: Array, logits: Array) -> Array:
    """KL(target ‖ softmax(logits)) over the last axis, [...]; its gradient is the cross-entropy's."""
    entropy = jnp.where(target > 0, target * jnp.log(jnp.maximum(target, 1e-30)), 0.0).sum(-1)
    return entropy - (target * jax.nn.log_softmax(logits)).sum(-1)


def midpoints(n: int) -> Array:
    """The middles of n equal parts of [0, 1], [n]: (i - 1/2) / n (Dabney et al. 2018a, lemma 2)."""
    return (jnp.arange(n) + 0.5) / n


def quantile_huber(quantiles: Array, fractions: Array, target: Array, kappa: Array | float = 1.0) -> Array:
    """The quantile Huber loss (Dabney et al. 2018a, eq. 9 and 10; divided by κ as in 2018b, eq. 3), [...].

    Σ_i 1/M Σ_j |τ_i - 1{u_ij < 0}| L_κ(u_ij) / κ,   u_ij = y_j - θ_i,   L_κ Huber's loss

    No gradient goes to the target. Its own gradient, -1/M Σ_j |τ_i - 1{u < 0}| clip(u, -κ, κ) / κ, is written out: what
    automatic differentiation keeps of [B, N, M] takes half as long again.

    Args:
        quantiles: θ [..., N].
        fractions: τ, of the same shape, or [N].
        target: samples or quantiles y [..., M].
        kappa: κ, in units of reward. Towards 0 the loss becomes that of quantile regression.
    """
    n, m = quantiles.shape[-1], target.shape[-1]
    rows = jnp.broadcast_to(fractions, quantiles.shape).reshape(-1, n)
    target = jax.lax.stop_gradient(target).reshape(-1, m)
    return _quantile_huber(quantiles.reshape(-1, n), rows, target, jnp.float32(kappa)).reshape(quantiles.shape[:-1])


@jax.custom_jvp
def _quantile_huber(quantiles: Array, fractions: Array, target: Array, kappa: Array) -> Array:
    error, weight = _errors(quantiles, fractions, target)
    size = jnp.abs(error)
    inside = jnp.minimum(size, kappa)
    return (weight * (0.5 * inside**2 / kappa + size - inside)).mean(-1).sum(-1)


@_quantile_huber.defjvp
def _(primals, tangents):
    quantiles, fractions, target, kappa = primals
    error, weight = _errors(quantiles, fractions, target)
    slope = -(weight * jnp.clip(error / kappa, -1.0, 1.0)).mean(-1)
    return _quantile_huber(*primals), (slope * tangents[0]).sum(-1)


def _errors(quantiles: Array, fractions: Array, target: Array) -> tuple[Array, Array]:
    """u and |τ - 1{u < 0}|, [B, N, M]."""
    error = target[:, None, :] - quantiles[:, :, None]
    return error, jnp.abs(fractions[:, :, None] - (error < 0))
