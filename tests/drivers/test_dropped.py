"""A simulator that fails and is restarted: agents do not learn to crash it."""

from __future__ import annotations

import logging

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.drivers import dropped, host
from thorndike.types import Transition


class Costly(gymnasium.Env):
    """Each step costs 1. Action 1 costs 2, and makes the simulator fail half of the time."""

    observation_space, action_space = Box(-1, 1, (1,), np.float32), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if action == 1 and self.np_random.random() < 0.5:
            raise RuntimeError("the simulator failed")
        self.t += 1
        return np.zeros(1, np.float32), -1.0 - float(action), False, self.t >= 20, {}


TORSO = td.Torso(widths=(16,))
AGENTS = {
    "ppo": td.PPO(num_envs=4, rollout_length=32, minibatch_size=64, learning_rate=1e-2, torso=TORSO),
    "dqn": td.DQN(
        num_envs=4,
        learning_rate=1e-2,
        torso=TORSO,
        discount=0.9,
        replay=td.Uniform(capacity=1_000, batch_size=32, warmup=100),
    ),
}


def share_of_failing(name, tmp_path):
    """How often the trained agent takes the action that fails, in 200 draws as in training."""
    logging.getLogger("thorndike").setLevel(logging.ERROR)
    run = td.train(AGENTS[name], Costly, 6_000, out=tmp_path / name, workers="serial", on_env_error="restart")
    assert run.metrics()["rollout/env_restarts"][-1] > 5
    return float(run.agent().act(np.zeros((200, 1), np.float32), explore=True).mean())


@pytest.mark.parametrize("name", AGENTS)
def test_a_failing_action_is_not_learned(name, tmp_path):
    assert share_of_failing(name, tmp_path) < 0.2


def test_learned_from_as_a_truncation_it_is(tmp_path, monkeypatch):
    """Without the replacement the agent ends in an environment that does nothing but fail."""
    monkeypatch.setattr(host, "without", lambda steps, lost, before: (steps, lost))
    with pytest.raises(td.EnvError, match="failure 11 without a good step"):
        share_of_failing("ppo", tmp_path)


def step(at, **more):
    """A step of two environments of one run, marked by a number."""
    given = {"first": False, "terminated": False, "truncated": False} | more
    flag = {k: np.broadcast_to(v, (1, 2)).copy() for k, v in given.items()}
    marks = np.array([[at, at + 100.0]])
    return Transition(marks, flag["first"], marks, {}, marks, flag["terminated"], flag["truncated"], marks + 1, {})


def test_what_takes_its_place():
    """The step before, if there is one; the episode is cut there, and neither ending counts as an episode."""
    lost = [np.zeros((1, 2), bool) for _ in range(3)]
    lost[1][0, 0] = True
    steps, dropped_ = dropped.without([step(0), step(1, truncated=[[True, False]]), step(2)], lost, None)
    np.testing.assert_array_equal([s.reward[0] for s in steps], [[0, 100], [0, 101], [2, 102]])
    np.testing.assert_array_equal([s.truncated[0] for s in steps], [[True, False], [True, False], [False, False]])
    assert steps[1].first[0, 0]
    np.testing.assert_array_equal([x[0, 0] for x in dropped_], [True, True, False])


@pytest.mark.parametrize(("before", "expected"), [(step(7), 7.0), (None, 2.0)])
def test_at_the_beginning_of_a_rollout(before, expected):
    lost = [np.array([[True, False]]), np.array([[False, False]])]
    steps, _ = dropped.without([step(1, truncated=[[True, False]]), step(2)], lost, before)
    assert steps[0].reward[0, 0] == expected


def test_the_only_step_of_a_rollout_is_taken_from_another_environment():
    steps, _ = dropped.without([step(1, truncated=[[True, False]])], [np.array([[True, False]])], None)
    assert steps[0].reward[0, 0] == 101.0
    assert steps[0].truncated[0, 0]
    assert steps[0].first[0, 0]
