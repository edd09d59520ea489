"""Returns and advantages. Bootstrapping stops at termination only; traces stop at every episode end."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from thorndike.types import Array, Transition


def td_target(reward: Array, next_value: Array, terminated: Array, discount: Array | float) -> Array:
    """One-step target r + γ (1 - terminated) V(s'); any shape."""
    return reward + discount * jnp.where(terminated, 0.0, next_value)


def n_step(steps: Transition, discount: Array | float) -> tuple[Array, Array | float]:
    """The reward of transitions that span k steps, and the discount of what follows: Σ_{i<k} γⁱ r_i and γᵏ.

    r and γ where they span one. See `thorndike.memory.windows.joined`.
    """
    later = steps.extras.get("later")
    if later is None:
        return steps.reward, discount
    powers = discount ** jnp.arange(1, later.shape[-1] + 1)
    return steps.reward + (later * powers).sum(-1), discount ** steps.extras["steps"]


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    ended: Array,
    discount: Array | float,
    trace: Array | float,
) -> Array:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16), [T, ...].

    δ_t = r_t + γ (1 - terminated_t) V(s'_t) - V(s_t),    A_t = δ_t + γ λ (1 - ended_t) A_{t+1}

    Args:
        reward, value, next_value: [T, ...]; `next_value` is V at the true successor, so that a truncated step
            bootstraps from the state that it reached and not from the next episode's first.
        terminated, ended: bool [T, ...]; `ended` is terminated or truncated.
        discount, trace: γ and λ.
    """
    delta = td_target(reward, next_value, terminated, discount) - value
    decay = discount * trace * (1.0 - ended)

    def backwards(advantage, step):
        delta, decay = step
        advantage = delta + decay * advantage
        return advantage, advantage

    return jax.lax.scan(backwards, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)[1]


def discounted_sums(start: Array, reward: Array, ended: Array, discount: Array | float) -> tuple[Array, Array]:
    """Running discounted sums of rewards forwards in time: G_t = r_t + γ (1 - ended_{t-1}) G_{t-1}.

    Args:
        start: [E], the sum before the first step (0 where an episode begins).
        reward, ended: [T, E].

    Returns:
        The value to start the next chunk with [E], and G [T, E].
    """

    def forwards(total, step):
        reward, ended = step
        total = reward + discount * total
        return jnp.where(ended, 0.0, total), total

    return jax.lax.scan(forwards, start, (reward, ended))


def returns_to_go(
    reward: Array, after: Array, ended: Array, first: Array, discount: Array | float
) -> tuple[Array, Array]:
    """What was earned from each step to the end of its episode, G_t = r_t + γ (ended_t ? after_t : G_{t+1}), and when.

    Args:
        reward, ended: [T, ...].
        after: [T, ...], what is worth more after the end of an episode, discounted once: V of the last observation of
            one that was cut, else 0.
        first: bool [T, ...]; an episode is also over, without a return, where another begins after it.
        discount: γ.

    Returns:
        G [T, ...], and the index of the step with which the episode ended, int32 [T, ...]; -1 where it did not.
    """
    index = jnp.arange(reward.shape[0], dtype=jnp.int32)
    broken = jnp.concatenate([first[1:], jnp.ones_like(first[:1])]) & ~ended

    def backwards(carry, step):
        total, end = carry
        i, reward, after, ended, broken = step
        total = reward + discount * jnp.where(ended, after, jnp.where(broken, 0.0, total))
        end = jnp.where(ended, i, jnp.where(broken, -1, end))
        return (total, end), (total, end)

    nothing = jnp.zeros_like(reward[0]), jnp.zeros_like(first[0], jnp.int32)
    return jax.lax.scan(backwards, nothing, (index, reward, after, ended, broken), reverse=True)[1]


def lambda_returns(
    reward: Array,
    next_value: Array,
    terminated: Array,
    ended: Array,
    discount: Array | float,
    trace: Array | float,
) -> Array:
    """λ-returns (Sutton & Barto 2018, eq. 12.2, as a recursion), [T, ...].

    G_t = r_t + γ (1 - terminated_t) [ λ G_{t+1} + (1 - λ) V(s'_t) ]

    Where an episode ends, and at the last step, the bracket is V(s'_t).

    Args:
        reward, next_value: [T, ...]; `next_value` is V at the true successor.
        terminated, ended: bool [T, ...]; `ended` is terminated or truncated.
        discount: γ, or one for each step [T, ...].
        trace: λ.
    """

    def backwards(later, step):
        reward, value, terminated, ended, discount = step
        mixed = jnp.where(ended, value, trace * later + (1 - trace) * value)
        total = td_target(reward, mixed, terminated, discount)
        return total, total

    steps = (reward, next_value, terminated, ended, jnp.broadcast_to(discount, reward.shape))
    return jax.lax.scan(backwards, next_value[-1], steps, reverse=True)[1]


def searched_returns(
    reward: Array, value: Array, terminated: Array, truncated: Array, discount: Array | float, trace: Array | float
) -> Array:
    """λ-returns [T, ...] from values of what was seen before each step, where no successor is kept.

    z_t = r_t + γ (1 - terminated_t) [ λ z_{t+1} + (1 - λ) v_{t+1} ]

    A step after which nothing is known, because it was truncated or is the last, is worth its own v_t.

    Args:
        reward, value, terminated, truncated: [T, ...].
        discount, trace: γ, negative where two players take turns, and λ.
    """
    cut = truncated.at[-1].set(True) & ~terminated

    def back(later: tuple[Array, Array], step: tuple[Array, ...]):
        reward, value, terminated, cut = step
        mixed = trace * later[0] + (1.0 - trace) * later[1]
        z = jnp.where(cut, value, reward + discount * jnp.where(terminated, 0.0, mixed))
        return (z, value), z

    nothing = jnp.zeros_like(value[0])
    return jax.lax.scan(back, (nothing, nothing), (reward, value, terminated, cut), reverse=True)[1]
