"""Pools of EnvPool's that answer in an order of their own, or what they should not."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from envpool_cases import LIMIT, Shuffled, Spoilt, walk

import thorndike as td


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        (0, np.inf, "observation is not finite"),
        (1, np.nan, "reward is not finite"),
    ],
)
def test_what_no_environment_may_answer_is_named(part, value, says):
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


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in Linux's /proc")
def test_a_closed_batch_has_ended_its_threads_and_says_so():
    def threads():
        return len(os.listdir("/proc/self/task"))

    env = td.make("envpool/CartPole-v1", num_threads=3)
    before = threads()
    with env.batch(8) as batch:
        batch.reset()
        assert threads() >= before + 3
    assert threads() == before
    with pytest.raises(td.EnvError, match="the batch is closed; make a new one"):
        batch.reset()
