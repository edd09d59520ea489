"""A learned driver below a planner of routes arrives at goals that it never had; without a planner it does not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trained import trained

import thorndike as td
from thorndike.envs.driving.streets import EARNS, FASTER, STEER_LEFT, STEER_RIGHT


def arrived(tmp_path, planner):
    """The share of 200 episodes of unseen starts and goals that arrived, and of those that collided."""
    seen, unseen = (td.make("RoutedStreets", planner=planner, pairs=pairs) for pairs in ("seen", "unseen"))
    found = trained(tmp_path, td.preset("ppo", "RoutedStreets"), seen, 300_000).evaluate(200, env=unseen).earned_mean
    return found["success"], found["collision"] / EARNS["collision"]


@pytest.mark.slow
def test_a_route_leads_to_goals_that_were_never_seen(tmp_path):
    (routed, collided), (alone, _) = arrived(tmp_path, "a_star"), arrived(tmp_path, "none")
    print(routed, collided, alone)
    assert routed >= 0.9
    assert alone <= 0.5


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
