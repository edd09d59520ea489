"""Settings known to work for a pair of algorithm and environment: used where an algorithm is given by its name.

Sources are named beside each; "zoo" is rl-baselines3-zoo's hyperparams.
"""

from __future__ import annotations

from typing import Any


def preset_for(algorithm: str, env: str | None) -> tuple[dict[str, Any], int | None]:
    """Field values and steps for (class name, environment id); ({}, None) where nothing is known."""
    name = (env or "").split("/")[-1]
    found = dict(_table().get((algorithm, name), {}))
    return found, found.pop("steps", None)


def all_presets() -> dict[tuple[str, str], dict[str, Any]]:
    """Every preset: (class name, environment id) to field values."""
    return _table()


def _table() -> dict[tuple[str, str], dict[str, Any]]:
    from thorndike.memory.replay import Uniform
    from thorndike.nets.torso import Torso

    small = Torso(widths=(64, 64), activation="relu", init="uniform")
    return {
        ("PPO", "CartPole-v1"): {  # zoo
            "steps": 100_000, "num_envs": 8, "rollout_length": 32, "minibatch_size": 256, "epochs": 20,
            "discount": 0.98, "trace": 0.8, "learning_rate": 1e-3, "anneal_learning_rate": True, "anneal_clip": True,
        },
        ("PPO", "Pendulum-v1"): {
            "steps": 300_000, "num_envs": 8, "rollout_length": 256, "minibatch_size": 128, "epochs": 10,
            "discount": 0.95, "learning_rate": 1e-3, "anneal_learning_rate": True,
        },
        ("DQN", "CartPole-v1"): {
            "steps": 100_000, "discount": 0.98, "double": True, "learning_rate": 2e-3, "anneal_learning_rate": True,
            "target_period": 100,
        },
        ("SAC", "Pendulum-v1"): {
            "steps": 20_000, "learning_rate": 1e-3, "torso": small,
            "replay": Uniform(capacity=20_000, batch_size=128, warmup=500),
        },
    }  # fmt: skip
