"""The tasks that need memory: rewards by the book, and what a policy with and without memory can have."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.envs.memory.repeat_previous import RepeatPrevious
from thorndike.envs.memory.t_maze import EAST, NORTH, SOUTH, WEST, TMaze

PLAN = [WEST, NORTH, EAST, WEST, EAST, SOUTH, EAST, EAST, EAST, EAST, WEST, EAST, NORTH]


@cache
def jitted(env):
    """One compilation for all episodes."""
    return jax.jit(env.step)


def play(env, policy, seed):
    """Observations, actions and rewards of one episode; `policy(observations so far)` gives the action."""
    key, step = jax.random.key(seed), jitted(env)
    now, seen, actions, rewards = env.reset(key), [], [], []
    while not now.terminated and len(actions) < env.max_steps:
        seen.append(int(now.obs))
        actions.append(policy(seen))
        key, skey = jax.random.split(key)
        now = step(now.state, jnp.int32(actions[-1]), skey)
        rewards.append(float(now.reward))
    return seen, actions, rewards


@pytest.mark.parametrize("k", [1, 4])
def test_repeat_previous_pays_for_the_suit_of_k_steps_ago(k):
    """Against the definition over the whole list of cards; who remembers has 1, who repeats the last card about 1/4."""
    env = RepeatPrevious(k=k, cards=30)
    rng = np.random.default_rng(0)
    for seed in range(5):
        seen, actions, rewards = play(env, lambda seen: int(rng.integers(4)), seed)
        assert len(seen) == 30
        answers = 30 - k
        expected = [0.0] * k + [(1 if actions[t] == seen[t - k] else -1) / answers for t in range(k, 30)]
        np.testing.assert_allclose(rewards, expected, rtol=1e-6)
        _, _, rewards = play(env, lambda seen: seen[-1 - k] if len(seen) > k else 0, seed)
        assert sum(rewards) == pytest.approx(1.0, abs=1e-5)
    guesses = [sum(play(env, lambda seen: seen[-1], seed)[2]) for seed in range(20)]
    assert abs(np.mean(guesses) + 0.5) < 0.15


def test_suits_are_even():
    env = RepeatPrevious()
    suits = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 4000)).obs
    counts = np.bincount(np.asarray(suits), minlength=4)
    assert (np.abs(counts - 1000) < 120).all()


def test_the_t_maze_by_hand():
    """Signs, corridor, junction; walls cost 0.1, the wrong turn too, the right one pays 4."""
    env = TMaze(length=3)
    signs = set()
    for seed in range(8):
        right = lambda seen: EAST if len(seen) < 4 else (SOUTH if seen[0] == 1 else NORTH)  # noqa: E731
        seen, _, rewards = play(env, right, seed)
        signs.add(seen[0])
        assert seen[1:] == [2, 2, 3]
        np.testing.assert_allclose(rewards, [0, 0, 0, 4.0])
        wrong = lambda seen: EAST if len(seen) < 4 else (NORTH if seen[0] == 1 else SOUTH)  # noqa: E731
        np.testing.assert_allclose(play(env, wrong, seed)[2], [0, 0, 0, -0.1], rtol=1e-6)
        seen, _, rewards = play(env, lambda seen: PLAN[len(seen) - 1], seed)
        assert seen[1:] == [seen[0], seen[0], 2, seen[0], 2, 2, 2, 3, 3, 3, 2, 3]
        end = 4.0 if seen[0] == 0 else -0.1
        np.testing.assert_allclose(rewards, [-0.1, -0.1, 0, 0, 0, -0.1, 0, 0, -0.1, -0.1, 0, 0, end], rtol=1e-6)
    assert signs == {0, 1}


@pytest.mark.parametrize(
    ("name", "fields"), [("RepeatPrevious", {"k": 0}), ("RepeatPrevious", {"cards": 4}), ("TMaze", {"length": 0})]
)
def test_impossible_tasks_are_refused(name, fields):
    with pytest.raises(td.ConfigError, match=name):
        td.train("ppo", td.make(name, **fields), 1000, progress=False)
