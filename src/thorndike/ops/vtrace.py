"""V-trace: value targets and advantages from experience of an older policy."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from thorndike.ops.returns import td_target
from thorndike.types import Array


def vtrace(
    log_ratio: Array,
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    ended: Array,
    discount: Array | float,
    trace: Array | float = 1.0,
    rho: Array | float = 1.0,
    c: Array | float = 1.0,
) -> tuple[Array, Array]:
    """V-trace targets and advantages (Espeholt et al. 2018, equation 1 and section 4.2), both [T, ...].

    δ_t = ρ_t (r_t + γ (1 - terminated_t) V(s'_t) - V(s_t))
    v_t = V(s_t) + δ_t + γ c_t (1 - ended_t) (v_{t+1} - V(s_{t+1}))
    A_t = ρ_t (r_t + γ (1 - terminated_t) v'_t - V(s_t))

    where ρ_t = min(ρ̄, π / μ) and c_t = λ min(c̄, π / μ), and v'_t is v_{t+1}, or V(s'_t) where the episode or the
    rollout ended.

    Args:
        log_ratio: log π(a | s) - log μ(a | s) of the present policy and of the one that acted, [T, ...].
        reward, value, next_value: [T, ...]; `next_value` is V at the true successor.
        terminated, ended: bool [T, ...]; `ended` is terminated or truncated.
        discount, trace: γ and λ.
        rho, c: the limits ρ̄ and c̄. The first decides whose values are learned, between those of μ (at 0) and of π (at
            infinity); the second only how fast.
    """
    ratio = jnp.exp(log_ratio)
    importance = jnp.minimum(rho, ratio)  # ρ_t
    delta = importance * (td_target(reward, next_value, terminated, discount) - value)
    decay = discount * trace * jnp.minimum(c, ratio) * (1.0 - ended)

    def backwards(correction: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = step
        correction = delta + decay * correction
        return correction, correction

    correction = jax.lax.scan(backwards, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)[1]
    target = value + correction
    after = jnp.where(ended, next_value, jnp.concatenate([target[1:], next_value[-1:]]))
    return target, importance * (td_target(reward, after, terminated, discount) - value)
