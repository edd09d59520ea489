"""Settings for DQN and its relatives, as presets: those of `DQN` itself, and some that others published.

LunarLander and MountainCar: rl-baselines3-zoo, hyperparams/dqn.yml and qrdqn.yml. The zoo counts the steps between two
copies of the target (`target_update_interval`), and `target_period` the updates in these. MinAtar: Young & Tian 2019,
whose environments these are, and for PQN Gallici et al. 2024.
"""

from __future__ import annotations

from typing import Any

from thorndike.memory.hindsight import Hindsight
from thorndike.memory.replay import Uniform
from thorndike.memory.sequences import Sequences
from thorndike.nets.recurrent import GRU
from thorndike.nets.torso import Torso
from thorndike.ops.exploration import Epsilon
from thorndike.ops.optimise import RMSProp
from thorndike.schedules import Linear

MINATAR = tuple(f"pgx/minatar-{game}" for game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders"))
WIDE = Torso(widths=(256, 256), activation="relu", init="uniform")


def dqn() -> dict[str, dict[str, Any]]:
    """DQN's, by environment."""
    replaying = {
        "steps": 200_000,
        "num_envs": 16,
        "learning_rate": 1e-3,
        "normalize_observation": False,
        "core": GRU(),
        "torso": Torso(widths=(64,), activation="relu", init="uniform"),
        "replay": Sequences(capacity=100_000, batch_size=32, warmup=2_000),
        "replay_ratio": 1 / 32,
    }
    return {
        "CartPole-v1": {
            "steps": 100_000, "discount": 0.98, "learning_rate": Linear(4e-3), "target_period": 50,
        },
        "Acrobot-v1": {
            "steps": 100_000, "normalize_observation": False, "exploration": Epsilon(end=0.02, fraction=0.2),
        },
        "BitFlip": {  # success 1 with hindsight, 0 without
            "steps": 50_000, "num_envs": 16, "discount": 0.98, "learning_rate": 1e-3, "target_period": 50,
            "replay_ratio": 0.25, "normalize_observation": False, "exploration": Epsilon(start=0.3, end=0.02),
            "torso": Torso(widths=(128, 128), activation="relu", init="uniform"), "replay": Hindsight(),
        },
        "TMaze": {**replaying, "rollout_length": 32},
        "RepeatPrevious": {**replaying, "rollout_length": 16},
        "LunarLander-v3": lunar_lander(),
        "MountainCar-v0": mountain_car(),
        **minatar(),
    }  # fmt: skip


def lunar_lander(**changes: Any) -> dict[str, Any]:
    """The zoo's DQN: four updates after four steps of one environment."""
    return {
        "steps": 100_000, "num_envs": 1, "rollout_length": 4, "replay_ratio": 1.0, "learning_rate": 6.3e-4,
        "discount": 0.99,
        "target_period": 250, "huber": 1.0, "max_grad_norm": 10.0, "normalize_observation": False, "double": False,
        "exploration": Epsilon(end=0.1, fraction=0.12), "torso": WIDE,
        "replay": Uniform(capacity=50_000, batch_size=128, warmup=128), **changes,
    }  # fmt: skip


def mountain_car(**changes: Any) -> dict[str, Any]:
    """The zoo's DQN: eight updates after 16 steps of one environment. With one step of each of 16 it never finds the
    flag."""
    return {
        "steps": 120_000, "num_envs": 1, "rollout_length": 16, "replay_ratio": 0.5, "learning_rate": 4e-3,
        "discount": 0.98, "target_period": 300, "huber": 1.0, "max_grad_norm": 10.0, "normalize_observation": False,
        "double": False,
        "exploration": Epsilon(end=0.07, fraction=0.2), "torso": WIDE,
        "replay": Uniform(capacity=10_000, batch_size=128, warmup=1_000), **changes,
    }  # fmt: skip


def minatar(**changes: Any) -> dict[str, dict[str, Any]]:
    """Young & Tian's DQN on each game of MinAtar: an update for each frame. Their RMSProp is centred, this one is not,
    and its ε is inside of the root; they train for 5,000,000 frames."""
    one = {
        "steps": 1_000_000, "num_envs": 4, "replay_ratio": 1.0, "learning_rate": 2.5e-4, "discount": 0.99,
        "target_period": 1_000, "huber": 1.0, "normalize_observation": False, "double": False,
        "exploration": Epsilon(start=Linear(1.0, 0.1, over=100_000), end=None),
        "torso": Torso(widths=(128,), images="small"), "optimiser": RMSProp(decay=0.95, eps=1e-4),
        "replay": Uniform(capacity=100_000, batch_size=32, warmup=5_000), **changes,
    }  # fmt: skip
    return dict.fromkeys(MINATAR, one)


def minatar_without_replay() -> dict[str, dict[str, Any]]:
    """PQN's on each game of MinAtar."""
    one = {
        "steps": 10_000_000, "num_envs": 128, "rollout_length": 32, "minibatch_size": 128, "epochs": 2,
        "learning_rate": Linear(5e-4), "trace": 0.65, "exploration": Epsilon(fraction=0.1),
        "torso": Torso(widths=(128,), images="small", norm="layer"),
    }  # fmt: skip
    return dict.fromkeys(MINATAR, one)
