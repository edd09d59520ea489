"""Potential-based shaping, against dynamic programming."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_wrappers import E, play

import thorndike as td
from thorndike.configuration import check
from thorndike.envs.grid.grid_world import GridState
from thorndike.envs.wrappers import base as wrappers
from thorndike.ops.keys import random_key
from thorndike.runs.training.validation import validate

MAP = ("S..#G", ".C...", "..#..", ".....")
GAMMA = 0.9


def potential(obs):
    """Any function will do, also one that points away from the goal."""
    return 3.0 * jnp.sin(5.0 * obs)


def at(env, cell):
    """The environment's state in a cell, as at the beginning of an episode."""
    if isinstance(env, td.GridWorld):
        return GridState(jnp.int32(cell))
    inner = at(env.env, cell)
    if isinstance(env, td.Shaping):
        return wrappers.Wrapped(inner, jnp.float32(potential(jnp.int32(cell))))
    return wrappers.Wrapped(inner, jnp.int32(0)) if isinstance(env, td.ActionRepeat) else inner


def optimal(env, discount=GAMMA):
    """Best actions [S, A] by value iteration over the environment's own steps."""
    layout = td.GridWorld(map=MAP).layout
    cells = np.flatnonzero(~(layout.wall | layout.goal | layout.cliff))
    q, step = np.zeros((20, 4)), jax.jit(env.step)
    tables = {}
    for cell in cells:
        for action in range(4):
            after = step(at(env, cell), action, random_key(0))
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


@pytest.mark.parametrize(
    "outer", [partial(td.ActionRepeat, times=2), partial(td.RewardScale, clip=1.0)], ids=["repeat", "clip"]
)
def test_the_order_of_wrappers_that_changes_the_best_policy_is_refused(outer):
    """And the one that the error offers leaves it as it is."""
    plain = td.GridWorld(map=MAP)
    wrong = outer(env=td.Shaping(env=plain, potential=potential, discount=GAMMA))
    right = td.Shaping(env=outer(env=plain), potential=potential, discount=GAMMA)
    assert not np.array_equal(optimal(outer(env=plain))[0], optimal(wrong)[0])
    np.testing.assert_array_equal(optimal(outer(env=plain))[0], optimal(right)[0])
    check(right)
    between = td.TimeLimit(env=wrong.env, steps=9)
    for refused in (wrong, td.TimeLimit(env=wrong, steps=9), dataclasses.replace(wrong, env=between)):
        with pytest.raises(td.ConfigError, match=rf"outside, Shaping\(env={type(wrong).__name__}\(env=...\)\)"):
            check(refused)


def test_rewards_and_potentials_may_be_scaled_together():
    plain = td.GridWorld(map=MAP)
    scaled = td.RewardScale(env=td.Shaping(env=plain, potential=potential, discount=GAMMA), scale=0.5)
    check(scaled)
    np.testing.assert_array_equal(optimal(plain)[0], optimal(scaled)[0])


@pytest.mark.parametrize("learned", [0.98, 1.0, np.array([0.99, 0.9])])
def test_rewards_are_shaped_with_the_discount_that_is_learned_with(learned, tmp_path):
    """On any depth, and for all of a sweep."""
    env = td.TimeLimit(env=td.Shaping(env=td.CartPole(), potential=lambda obs: obs[0], discount=0.99), steps=9)
    with pytest.raises(td.ConfigError, match=r"Shaping.discount is 0.99 and PPO.discount .*the same value"):
        td.train(td.PPO(discount=learned), env, 8, out=tmp_path / "run", progress=False)
    for same in (0.99, np.float32(0.99), np.array([0.99, 0.99])):
        validate(td.PPO(discount=same), env, 8, 1)


def test_the_discount_of_shaping_is_not_drawn_anew():
    env = td.Shaping(env=td.CartPole(), potential=lambda obs: obs[0])
    with pytest.raises(td.ConfigError, match="Shaping has no number 'discount'; it has gravity"):
        check(td.Randomised(env=env, ranges=(("discount", 0.9, 0.99),)))


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
