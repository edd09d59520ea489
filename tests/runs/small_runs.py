"""The few small settings that these tests share, so that each program is compiled once."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.metrics import MetricsFile

TORSO = td.Torso(widths=(4,), init="uniform")
REPLAY = td.Uniform(capacity=64, batch_size=8, warmup=32)
PPO = td.PPO(
    num_envs=2, rollout_length=8, minibatch_size=8, epochs=1, torso=TORSO,
    normalize_observation=True, normalize_reward=True,
)  # fmt: skip
DQN = td.DQN(num_envs=2, replay=REPLAY, torso=TORSO, target_period=8)
SAC = td.SAC(num_envs=2, replay=REPLAY, torso=TORSO)
ENVS = {"PPO": "CartPole-v1", "DQN": "CartPole-v1", "SAC": "Pendulum-v1"}
ALGORITHMS = {"PPO": PPO, "DQN": DQN, "SAC": SAC}
STEPS, LOG_EVERY = 320, 32

PPO_FLAGS = [  # the same PPO on the command line
    "--no-preset", "--num-envs", "2", "--rollout-length", "8", "--minibatch-size", "8", "--epochs", "1",
    "--torso.widths", "4", "--torso.init", "uniform", "--normalize-observation", "--normalize-reward",
]  # fmt: skip


def train(name: str, out: Path, **more: Any) -> td.Run:
    more = {"steps": STEPS, "log_every": LOG_EVERY, "checkpoint_every": 1e9, "progress": False, **more}
    return td.train(more.pop("algorithm", ALGORITHMS.get(name)), more.pop("env", ENVS.get(name)), out=out, **more)


def arrays(run: td.Run) -> dict[str, np.ndarray]:
    """All arrays of the newest checkpoint."""
    found = checkpoint.load_newest(run.path / "checkpoints")
    assert found is not None
    assert found[2] == []
    return found[0]


def differing(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> list[str]:
    """Names of the arrays that are not equal bit for bit."""
    assert set(a) == set(b)
    return [name for name in a if a[name].dtype != b[name].dtype or a[name].tobytes() != b[name].tobytes()]


def rows(run: td.Run) -> list[dict[str, Any]]:
    """Every line of metrics.jsonl, parsed strictly, without what the clock says."""
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]


@td.config
class Broken:
    """Counts its steps; from `obs_at` on the observation is NaN, from `reward_at` on the reward."""

    obs_at: float = 1e9
    reward_at: float = 1e9
    max_steps: int = 1000

    @property
    def observation_space(self) -> Box:
        return Box(-np.inf, np.inf, (4,), np.float32)

    @property
    def action_space(self) -> Discrete:
        return Discrete(2)

    def reset(self, key):
        return td.Step(jnp.float32(0), jnp.zeros(4))

    def step(self, state, action, key):
        t = state + 1
        obs = jnp.where(t >= self.obs_at, jnp.nan, 0.001 * t * jnp.ones(4))
        return td.Step(t, obs, jnp.where(t >= self.reward_at, jnp.nan, 1.0))


class FiveSteps(gymnasium.Env):
    """On the host, shaped as CartPole is: every episode has five steps of reward 1."""

    observation_space = Box(-np.inf, np.inf, (4,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(4, self.t, np.float32), 1.0, self.t == 5, False, {}


def interrupt(monkeypatch, *steps: int, number: int = signal.SIGINT):
    """Send this process a signal when the row at one of `steps` is written."""
    write, left = MetricsFile.write, set(steps)

    def hooked(self, row):
        write(self, row)
        if row["steps"] in left:
            left.remove(row["steps"])
            os.kill(os.getpid(), number)

    monkeypatch.setattr(MetricsFile, "write", hooked)


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """As if the disk were full behind so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


TAGS = {  # every row; then those of the algorithm, once it learns
    "": {"rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/episodes", "time/fps", "time/seconds"},
    "PPO": {
        "rollout/reward_mean", "rollout/observation_max", "train/loss", "train/policy_gradient_loss",
        "train/value_loss", "train/entropy", "train/approx_kl", "train/clip_fraction", "train/explained_variance",
    },
    "DQN": {"rollout/reward_mean", "rollout/observation_max", "train/loss", "train/td_error", "train/q_value"},
    "SAC": {"rollout/reward_mean", "train/critic_loss", "train/actor_loss", "train/entropy", "train/ent_coef"},
}  # fmt: skip
