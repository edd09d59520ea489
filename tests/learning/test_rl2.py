"""RL² learns to learn: from its memory alone, and only where it is shown what came of its actions."""

from __future__ import annotations

import pytest

import thorndike as td
from thorndike.configuration import config
from thorndike.envs.wrappers.base import Wrapper

TRIALS = td.Trials(env=td.Doors(), episodes=5)


@config
class Unpaid(Wrapper):
    """Trials whose rewards are not shown."""

    def reset(self, key):
        return self.env.reset(key)

    def step(self, state, action, key):
        step = self.env.step(state, action, key)
        return step._replace(obs={**step.obs, "reward": step.obs["reward"] * 0.0})


def returns(env, algorithm=None, seeds=4):
    algorithm = algorithm or td.preset("rl2", "DoorsTrials")
    return td.train(algorithm, env, steps=400_000, seeds=seeds, progress=False).evaluate(300).per_run


@pytest.mark.slow
def test_doors():
    """Crossing doors out earns 3.5; 3.2 and 3.4 were measured. Without memory 1.25 is the most."""
    found = returns(TRIALS)
    assert min(found) >= 2.4
    assert sum(found) / len(found) >= 2.9


@pytest.mark.slow
def test_without_rewards_nothing_is_learned():
    """Which door was right is not shown: 1.25 is the most. (Without a memory 2.1 was measured: the last action is seen,
    and steps in the corridor can repeat the door, so that a win is followed by the same one.)"""
    assert max(returns(Unpaid(env=TRIALS), seeds=2)) <= 1.6
