"""Environments that a script registers with Gymnasium, in worker processes, which do not run the script."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, threading
import gymnasium as gym, numpy as np
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment

here = os.getpid()

class Mine(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    def __init__(self, bonus=0.0, line=None):
        self.bonus = bonus
    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}
    def step(self, action):
        return np.zeros(1, np.float32), float(os.getpid() != here) + self.bonus, False, False, {}

gym.register("Mine-v0", entry_point="__main__:Mine", max_episode_steps=3)
gym.register("Mine-v1", entry_point=Mine, max_episode_steps=3)
gym.register("Mine-v2", entry_point=lambda **given: Mine(**given), max_episode_steps=3, kwargs={"bonus": 1.0})
gym.register("Stuck-v0", entry_point=Mine, kwargs={"line": threading.Lock()})  # cannot be sent
gym.register("CartPole-v1", entry_point=Mine, max_episode_steps=3)  # in the place of Gymnasium's own

sources = {
    "id": "Mine-v0",
    "made": lambda: gym.make("Mine-v0"),
    "wrapped": lambda: gym.wrappers.TimeAwareObservation(gym.make("Mine-v1")),
    "newest": lambda: gym.make("Mine"),
    "replaced": lambda: gym.make("CartPole-v1"),
}
with GymnasiumEnvironment(sources[sys.argv[1]]).batch(2, 0, "process") as batch:
    batch.reset()
    for _ in range(3):
        now = batch.step(np.zeros(2, int))
    print(now.reward.tolist(), now.truncated.tolist())
"""


@pytest.mark.parametrize("source", ["id", "made", "wrapped", "newest", "replaced"])
def test_workers_know_what_the_script_registered(source, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "-W", "ignore", "script.py", source], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    reward = 2.0 if source == "newest" else 1.0  # as in another process
    assert done.stdout.split("\n")[0] == f"{[reward, reward]} [True, True]"
