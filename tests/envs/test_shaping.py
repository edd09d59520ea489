"""Potential-based shaping, against dynamic programming."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_wrappers import E, play

import thorndike as td
from thorndike.envs import wrappers
from thorndike.ops.keys import random_key

MAP = ("S..#G", ".C...", "..#..", ".....")
GAMMA = 0.9


def potential(obs):
    """Any function will do, also one that points away from the goal."""
    return 3.0 * jnp.sin(5.0 * obs)


def optimal(env, discount=GAMMA):
    """Best actions [S, A] by value iteration over the environment's own steps."""
    inner = td.GridWorld(map=MAP)
    states = inner.reset(random_key(0)).state._fields
    cells = np.flatnonzero(~(inner.layout.wall | inner.layout.goal | inner.layout.cliff))
    q, step = np.zeros((20, 4)), jax.jit(env.step)
    tables = {}
    for cell in cells:
        state = type(inner.reset(random_key(0)).state)(**dict.fromkeys(states, jnp.int32(cell)))
        if isinstance(env, td.Shaping):
            state = wrappers.Wrapped(state, jnp.float32(potential(jnp.int32(cell))))
        for action in range(4):
            after = step(state, action, random_key(0))
            tables[cell, action] = (float(after.reward), bool(after.terminated), int(after.obs))
    for _ in range(200):
        value = q.max(1)
        for (cell, action), (reward, terminated, later) in tables.items():
            q[cell, action] = reward + (0 if terminated else discount * value[later])
    return (q[cells] > q[cells].max(1, keepdims=True) - 1e-4), q[cells]


def test_shaping_leaves_the_best_policy_unchanged():
    plain, shaped = td.GridWorld(map=MAP), td.Shaping(env=td.GridWorld(map=MAP), potential=potential, discount=GAMMA)
    best, q = optimal(plain)
    again, other = optimal(shaped)
    assert np.abs(q - other).max() > 1
    np.testing.assert_array_equal(best, again)


@pytest.mark.parametrize("bug", ["no discount", "a bonus in the place of a difference"])
def test_other_shaping_changes_the_best_policy(bug):
    plain = td.GridWorld(map=MAP)
    env = td.Shaping(env=plain, potential=potential, discount=1.0 if bug == "no discount" else GAMMA)
    if bug != "no discount":
        step = td.Shaping.step

        class Bonus(td.Shaping):
            def step(self, state, action, key):
                return step(self, state._replace(mine=jnp.float32(0)), action, key)

        env = Bonus(env=plain, potential=potential, discount=GAMMA)
    assert not np.array_equal(optimal(plain)[0], optimal(env)[0])


def test_the_shaped_return_is_minus_the_potential_of_the_start():
    """Discounted, the added rewards of an episode that terminates sum up to -Φ(s₀)."""
    shaped = td.Shaping(env=td.CartPole(), potential=lambda obs: 7 * obs[0] + obs[2], discount=GAMMA)
    _, plain = play(td.CartPole())
    _, times = play(shaped)
    start, total, factor, seen = times[0].obs, np.zeros(E), np.ones(E), 0
    for now, other in zip(times[1:], plain[1:]):
        total += factor * (now.reward - other.reward)
        factor *= GAMMA
        for e in np.flatnonzero(now.terminated):
            assert total[e] == pytest.approx(-(7 * start[e, 0] + start[e, 2]), abs=1e-4)
            total[e], factor[e], seen = 0, 1, seen + 1
            start = np.where(np.arange(E)[:, None] == e, now.obs, start)
    assert seen > 3
