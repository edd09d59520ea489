"""PPO's settings known to work, by environment. "zoo" is rl-baselines3-zoo's hyperparams."""

from __future__ import annotations

from typing import Any

from thorndike.nets.recurrent import GRU
from thorndike.nets.torso import Torso
from thorndike.schedules import Linear


def presets() -> dict[str, dict[str, Any]]:
    """Field values by environment, and "steps"."""
    raw = {"normalize_observation": False, "normalize_reward": False}
    remembering = {
        **raw,
        "epochs": 4,
        "num_envs": 16,
        "rollout_length": 64,
        "minibatch_size": 256,
        "learning_rate": Linear(2e-3),
        "trace": 0.98,
        "entropy_coefficient": 0.01,
        "core": GRU(),
    }
    lander = {  # zoo
        **raw, "steps": 1_000_000, "num_envs": 16, "rollout_length": 1024, "minibatch_size": 64, "epochs": 4,
        "discount": 0.999, "trace": 0.98, "entropy_coefficient": 0.01,
    }  # fmt: skip
    return {
        "CartPole-v1": {"steps": 100_000},
        "Acrobot-v1": {"steps": 100_000},
        "MountainCar-v0": {  # rl-baselines3-zoo's; -109 to -125 in four seeds
            "steps": 1_000_000, "num_envs": 16, "rollout_length": 16, "minibatch_size": 64, "epochs": 4,
            "learning_rate": 3e-4, "clip": 0.2, "trace": 0.98,
        },
        "Pendulum-v1": {
            **raw, "steps": 300_000, "num_envs": 8, "rollout_length": 256, "minibatch_size": 128,
            "discount": 0.95, "learning_rate": Linear(1e-3),
        },
        "CartPoleNoVel-v1": {
            "steps": 100_000, "num_envs": 8, "rollout_length": 128, "minibatch_size": 256, "epochs": 10,
            "discount": 0.98, "trace": 0.98, "learning_rate": Linear(1e-3), "core": GRU(),
        },
        "TMaze": {"steps": 200_000, **remembering},
        "RepeatPrevious": {"steps": 300_000, **remembering},
        "LunarLander-v3": lander,
        "LunarLanderContinuous-v3": lander,
        "InvertedPendulum-v5": {
            "steps": 500_000, "num_envs": 8, "rollout_length": 256, "minibatch_size": 64, "epochs": 10,
            "learning_rate": Linear(3e-4),
        },
        "envpool/Pong-v5": {  # Huang et al. 2022, but 128 environments x 32 steps for 8 x 128
            **raw, "steps": 5_000_000, "num_envs": 128, "rollout_length": 32, "minibatch_size": 256, "epochs": 4,
            "learning_rate": Linear(2.5e-4), "clip": 0.1, "entropy_coefficient": 0.01,
            "shared_torso": True, "torso": Torso(widths=(512,)),
        },
        "RoutedStreets": {
            "steps": 2_000_000, "num_envs": 64, "rollout_length": 64, "minibatch_size": 512, "epochs": 4,
            "learning_rate": Linear(1e-3), "entropy_coefficient": 0.01, "normalize_observation": False,
        },
        "simple_spread_v3": {  # eight worlds of three agents; the norm is MAPPO's (Yu et al. 2022)
            **raw, "steps": 100_000, "num_envs": 24, "rollout_length": 50, "minibatch_size": 240, "epochs": 8,
            "learning_rate": Linear(1e-3), "max_grad_norm": 10.0,
        },
    }  # fmt: skip
