"""Driving through the town needs more than a route: who follows it and never brakes collides."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.envs.driving.streets import FASTER, STEER_LEFT, STEER_RIGHT


def hurried(env, key):
    """Whether a car that follows its route and always accelerates collides in an episode."""
    first = env.reset(key)

    def step(carry, key):
        state, obs, over, collided = carry
        side, turn = jnp.argmax(obs["obs"][:5]), jnp.argmax(obs["route"][:4])
        wanted = jnp.array([0, 1, jnp.where(side > 2, 3, 2), 4])[turn]
        action = jnp.where(side < wanted, STEER_RIGHT, jnp.where(side > wanted, STEER_LEFT, FASTER))
        after = env.step(state, action, key)
        collided |= ~over & (after.info["terms"]["collision"] < 0)
        return (after.state, after.obs, over | after.terminated, collided), None

    begin = (first.state, first.obs, jnp.bool_(False), jnp.bool_(False))
    return jax.lax.scan(step, begin, jax.random.split(key, env.max_steps))[0][3]


@pytest.mark.slow
def test_who_always_accelerates_collides():
    env = td.make("RoutedStreets")
    collided = jax.jit(jax.vmap(lambda key: hurried(env, key)))(jax.random.split(jax.random.key(0), 100))
    assert np.asarray(collided).mean() >= 0.5
