"""Pools of EnvPool's that answer when they are ready, in an order of their own, or what they should not."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from envpool_cases import COPIES, LIMIT, Shuffled, Spoilt, walk

import thorndike as td
from thorndike.drivers import overlap
from thorndike.envs.adapters.envpool import EnvPoolBatch
from thorndike.types import Transition


def ready_rollout(batch, now, carry, length):
    """The rollout of a policy that pushes to where the pole leans, with the count of its steps as its memory."""

    def act(carry, now, key):
        carry = np.where(now.first, 0, carry) + 1
        return (now.obs[..., 2] > 0).astype(np.int64), carry, {"count": carry}, key + 1

    return overlap.rollout(act, batch, now, carry, 0, length)


def check_rows(steps: Transition, last):
    """Every row is one environment's own experience, in order: what is seen is what came of the step before."""
    np.testing.assert_array_equal(steps.action, (steps.obs[..., 2] > 0).astype(int))
    after = np.concatenate([steps.obs[0, 1:], last.obs]), np.concatenate([steps.first[0, 1:], last.first])
    np.testing.assert_array_equal(after[1], steps.ended[0])
    np.testing.assert_array_equal(after[0][~after[1]], steps.next_obs[0][~after[1]])
    moved = steps.obs[..., 0] + 0.02 * steps.obs[..., 1]  # CartPole's Euler step, into ends too
    np.testing.assert_allclose(steps.next_obs[..., 0], moved, atol=1e-5)
    assert after[1].any()
    count = np.zeros(COPIES, int)
    for t in range(steps.first.shape[1]):
        count = np.where(steps.first[0, t], 0, count) + 1
        np.testing.assert_array_equal(steps.extras["count"][0, t], count)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in Linux's /proc")
def test_an_asynchronous_pool_steps_on_every_core_until_it_is_closed():
    def now():
        return len(os.listdir("/proc/self/task"))

    def threads_of(**options):
        env = td.make("envpool/CartPole-v1", asynchronous=True, **options)
        before = now()
        with env.batch(64) as batch:
            batch.reset()
            made = now() - before
        assert now() == before
        with pytest.raises(td.EnvError, match="the batch is closed; make a new one"):
            batch.reset()
        return made

    one = threads_of(num_threads=1)
    assert threads_of(num_threads=3) == one + 2
    assert threads_of() == one - 1 + min(64, os.cpu_count())


def test_rollout_of_whatever_is_ready():
    env = td.make("envpool/CartPole-v1", max_episode_steps=LIMIT, asynchronous=True)
    with env.batch(COPIES) as batch:
        now = jax.tree.map(lambda x: x[None], batch.reset())
        rollout, carry, key = ready_rollout(batch, now, np.zeros((1, COPIES), int), 40)
        check_rows(rollout.steps, rollout.last)
        assert key > 40 * COPIES / 3 - 1  # in groups of three at most
        assert rollout.steps.truncated.any()
        np.testing.assert_array_equal(rollout.carry, 0)
        more, _, _ = ready_rollout(batch, rollout.last, carry, 1)
        expected = np.where(rollout.last.first, 0, carry) + 1
        np.testing.assert_array_equal(more.steps.extras["count"][0], expected)


def pendulum_rewards():
    """Whether each row's reward is that of what it saw and did."""

    def act(carry, now, key):
        return np.clip(now.obs[..., 2:], -1, 1), carry, {}, key

    env = td.make("envpool/Pendulum-v1", max_episode_steps=LIMIT, asynchronous=True)
    with env.batch(COPIES) as batch:
        now = jax.tree.map(lambda x: x[None], batch.reset())
        steps = overlap.rollout(act, batch, now, np.zeros((1, COPIES)), 0, 30)[0].steps
    cos, sin, speed = np.moveaxis(steps.obs.astype(float), -1, 0)
    torque = steps.action[..., 0]
    cost = np.arctan2(sin, cos) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
    return np.abs(steps.reward + cost).max() < 1e-3


def test_rewards_are_those_of_their_rows(monkeypatch):
    assert pendulum_rewards()
    receive = EnvPoolBatch.receive

    def another(self, count):
        rows, answer = receive(self, count)
        return rows, answer._replace(reward=answer.reward[::-1])

    monkeypatch.setattr(EnvPoolBatch, "receive", another)
    assert not pendulum_rewards()


@pytest.mark.parametrize("bug", ["rows of another", "forgets who is slow"])
def test_check_of_rows_bites(monkeypatch, bug):
    env = td.make("envpool/CartPole-v1", max_episode_steps=LIMIT, asynchronous=True)
    right = overlap._store

    def wrong(into, values, at, axes=()):
        if bug == "rows of another" and isinstance(at, tuple):
            at = (at[0], np.roll(at[1], 1))
        if bug == "forgets who is slow" and isinstance(at, tuple):
            at = (np.full_like(at[0], at[0].min()), at[1])
        return right(into, values, at, axes)

    monkeypatch.setattr(overlap, "_store", wrong)
    with env.batch(COPIES) as batch:
        now = jax.tree.map(lambda x: x[None], batch.reset())
        rollout, *_ = ready_rollout(batch, now, np.zeros((1, COPIES), int), 40)
    with pytest.raises(AssertionError):
        check_rows(rollout.steps, rollout.last)


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        (0, np.inf, "observation is not finite"),
        (1, np.nan, "reward is not finite"),
        (0, 110.0, "observation is outside of its space"),
    ],
)
def test_what_no_environment_may_answer_is_named(part, value, says):
    """CartPole's positions lie between -4.8 and 4.8, floats may be ten widths outside: up to 100.8."""
    with td.make("envpool/CartPole-v1").batch(3) as batch:
        batch._pool = Spoilt(batch._pool, part, value)
        batch.reset()
        for _ in range(2):
            batch.step(np.zeros(3, int))
        with pytest.raises(td.EnvError, match=f"environment 2 of EnvPool's CartPole-v1: its {says}"):
            batch.step(np.zeros(3, int))


def test_a_part_of_an_observation_is_named_too():
    with td.make("envpool/PendulumSwingup-v1").batch(3) as batch:
        batch._pool = Spoilt(batch._pool, 0, np.nan, "velocity")
        batch.reset()
        for _ in range(2):
            batch.step(np.zeros((3, 1)))
        with pytest.raises(td.EnvError, match=r"environment 2 of .*its observation\['velocity'\] is not finite"):
            batch.step(np.zeros((3, 1)))


def test_ten_widths_outside_are_let_pass():
    with td.make("envpool/CartPole-v1").batch(3) as batch:
        batch._pool = Spoilt(batch._pool, 0, 100.0)
        batch.reset()
        for _ in range(3):
            shown = batch.step(np.zeros(3, int)).final_obs
        assert shown[2, 0] == 100


def test_the_order_in_which_a_pool_answers_does_not_matter():
    class Mixed(type(td.make("envpool/CartPole-v1"))):
        def _pool(self, *given):
            return Shuffled(super()._pool(*given))

    options = {"max_episode_steps": LIMIT}
    ours, theirs = walk(td.make("envpool/CartPole-v1", **options)), walk(Mixed("CartPole-v1", **options))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert ours[0].truncated.any()
    assert ours[0].terminated.any()
