"""Where only a random policy is good, evaluation says that greedy episodes earn less than training did."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.cli import main
from thorndike.commands.evaluate import remark


class Blind(gymnasium.Env):
    """A corridor of five cells that look alike, with the goal in the middle: whoever always goes one way may never
    arrive."""

    def __init__(self):
        self.observation_space, self.action_space = Box(0, 1, (1,), np.float32), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = int(self.np_random.choice([0, 4])), 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.x, self.t = int(np.clip(self.x + 2 * int(action) - 1, 0, 4)), self.t + 1
        return np.zeros(1, np.float32), -1.0, self.x == 2, self.t >= 40, {}


def test_a_policy_that_must_be_random(tmp_path):
    algorithm = td.PPO(num_envs=8, rollout_length=32, minibatch_size=64, entropy_coefficient=0.02)
    run = td.train(algorithm, Blind, 2048, out=tmp_path / "run", progress=False, workers="serial")
    greedy, sampled = run.evaluate(20), run.evaluate(20, explore=True)
    assert "with --explore the agents act as in training" in remark(run, greedy)
    assert remark(run, sampled) == ""


def test_nothing_is_said_where_greedy_is_better(tmp_path, capsys):
    algorithm = td.QLearning(exploration=td.Epsilon(start=0.5, end=0.5), learning_rate=0.5, discount=1.0)
    run = td.train(algorithm, "CliffWalking-v1", 8000, out=tmp_path / "run", progress=False)
    assert run.evaluate(4).mean > run.status["return_mean"][0] + 50
    assert remark(run, run.evaluate(4)) == ""
    for flags, explores in ([], False), (["--explore"], True):
        assert main(["evaluate", str(run.path), "--episodes", "4", "--json", *flags]) == 0
        assert (json.loads(capsys.readouterr().out)["mean"] < -50) == explores
