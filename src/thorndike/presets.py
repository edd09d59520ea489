"""Settings known to work for a pair of algorithm and environment: used where an algorithm is given by its name.

Sources are named beside each; "zoo" is rl-baselines3-zoo's hyperparams.
"""

from __future__ import annotations

from typing import Any


def preset_for(algorithm: str, env: str | None) -> tuple[dict[str, Any], int | None]:
    """Field values and steps for (class name, environment id); ({}, None) where nothing is known.

    What is known of `CartPole-v1` holds for `gymnasium/CartPole-v1` too; what is known of a whole id only for that.
    """
    table, env = all_presets(), env or ""
    found = dict(table.get((algorithm, env)) or table.get((algorithm, env.split("/")[-1]), {}))
    return found, found.pop("steps", None)


def all_presets() -> dict[tuple[str, str], dict[str, Any]]:
    """Every preset: (class name, environment id) to field values."""
    from thorndike.memory.replay import Uniform
    from thorndike.memory.sequences import Sequences
    from thorndike.nets.recurrent import GRU
    from thorndike.nets.torso import Torso
    from thorndike.ops.exploration import Epsilon

    small = Torso(widths=(64, 64), activation="relu", init="uniform")
    remembering = {
        "num_envs": 16, "rollout_length": 64, "minibatch_size": 256, "learning_rate": 2e-3, "trace": 0.98,
        "anneal_learning_rate": True, "entropy_coefficient": 0.01, "core": GRU(),
    }  # fmt: skip
    replaying = {
        "num_envs": 16, "learning_rate": 1e-3, "double": True, "target_period": 100, "core": GRU(),
        "torso": Torso(widths=(64,), activation="relu", init="uniform"),
        "replay": Sequences(capacity=100_000, batch_size=32, warmup=2_000),
    }  # fmt: skip
    return {
        ("PPO", "CartPole-v1"): {  # zoo, but for rollouts of 128 steps, γ and λ: its own fail 1 run in 50
            "steps": 100_000, "num_envs": 8, "rollout_length": 128, "minibatch_size": 256, "epochs": 20,
            "learning_rate": 1e-3, "anneal_learning_rate": True, "anneal_clip": True,
        },
        ("PPO", "Pendulum-v1"): {
            "steps": 300_000, "num_envs": 8, "rollout_length": 256, "minibatch_size": 128, "epochs": 10,
            "discount": 0.95, "learning_rate": 1e-3, "anneal_learning_rate": True,
        },
        ("DQN", "CartPole-v1"): {
            "steps": 100_000, "discount": 0.98, "double": True, "learning_rate": 4e-3, "anneal_learning_rate": True,
            "normalize_observation": True, "target_period": 50,
            "replay": Uniform(capacity=50_000, batch_size=128, warmup=1_000),
        },
        ("DQN", "Acrobot-v1"): {
            "steps": 100_000, "double": True, "learning_rate": 2e-3, "anneal_learning_rate": True,
            "target_period": 100, "exploration": Epsilon(end=0.02, fraction=0.2),
            "replay": Uniform(capacity=50_000, batch_size=128, warmup=1_000),
        },
        ("PPO", "CartPoleNoVel-v1"): {
            "steps": 100_000, "num_envs": 8, "rollout_length": 128, "minibatch_size": 256, "epochs": 10,
            "discount": 0.98, "trace": 0.98, "learning_rate": 1e-3, "anneal_learning_rate": True,
            "normalize_observation": True, "normalize_reward": True, "core": GRU(),
        },
        ("DQN", "TMaze"): {"steps": 200_000, **replaying, "rollout_length": 32, "gradient_steps": 16},
        ("DQN", "RepeatPrevious"): {"steps": 200_000, **replaying, "rollout_length": 16, "gradient_steps": 8},
        ("PPO", "TMaze"): {"steps": 200_000, **remembering},
        ("PPO", "RepeatPrevious"): {"steps": 300_000, **remembering},
        ("PPO", "LunarLander-v3"): {  # zoo
            "steps": 1_000_000, "num_envs": 16, "rollout_length": 1024, "minibatch_size": 64, "epochs": 4,
            "discount": 0.999, "trace": 0.98, "entropy_coefficient": 0.01,
        },
        ("PPO", "InvertedPendulum-v5"): {
            "steps": 500_000, "num_envs": 8, "rollout_length": 256, "minibatch_size": 64, "epochs": 10,
            "normalize_observation": True, "normalize_reward": True, "anneal_learning_rate": True,
        },
        ("PPO", "envpool/Pong-v5"): {  # Huang et al. 2022, but 128 environments x 32 steps for 8 x 128
            "steps": 5_000_000, "num_envs": 128, "rollout_length": 32, "minibatch_size": 256, "epochs": 4,
            "learning_rate": 2.5e-4, "anneal_learning_rate": True, "clip": 0.1, "entropy_coefficient": 0.01,
            "shared_torso": True, "torso": Torso(widths=(512,)),
        },
        ("PPO", "simple_spread_v3"): {  # eight worlds of three agents; the norm is MAPPO's (Yu et al. 2022)
            "steps": 100_000, "num_envs": 24, "rollout_length": 50, "minibatch_size": 240, "epochs": 8,
            "learning_rate": 1e-3, "anneal_learning_rate": True, "max_grad_norm": 10.0,
        },
        ("AlphaZero", "tic_tac_toe"): {"steps": 200_000, "temperature": 2.0, "anneal_learning_rate": True},
        ("AlphaZero", "connect_four"): {
            "steps": 1_000_000, "temperature": 3.0, "anneal_learning_rate": True, "num_envs": 128,
            "gradient_steps": 32, "torso": Torso(widths=(256, 256), activation="relu", images="none"),
        },
        ("SAC", "HalfCheetah-v5"): {  # zoo's MuJoCo settings: the paper's, with a warm-up of 10,000 steps
            "steps": 1_000_000, "replay": Uniform(capacity=1_000_000, batch_size=256, warmup=10_000),
        },
        ("SAC", "Pendulum-v1"): {
            "steps": 20_000, "learning_rate": 1e-3, "torso": small,
            "replay": Uniform(capacity=20_000, batch_size=128, warmup=500),
        },
    }  # fmt: skip
