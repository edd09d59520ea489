"""SAC with many updates for each environment step: REDQ's ensemble of critics, and DroQ's dropout in its place."""

from __future__ import annotations

from typing import Any, Literal

from thorndike.algorithms.actor_critic.sac import SAC
from thorndike.configuration import algorithm
from thorndike.domains import Static
from thorndike.memory.replay import Uniform
from thorndike.nets.torso import Torso


@algorithm(
    name="redq",
    summary="SAC with ten critics, targets from two of them, and 20 updates a step",
    actions="Box with finite bounds",
    aliases=("randomized-ensembled-double-q-learning",),
)
class REDQ(SAC):
    """Randomised ensembled double Q-learning (Chen et al. 2021, algorithm 1): sample-efficient SAC.

    y = r + γ (1 - terminated) (min_{i in M} Q_i(s', a'; θ⁻) - α log π(a' | s')),   M a random subset of the critics;
    the policy climbs the mean of all critics, once in 20 updates.
    """

    critics: int = 10  # how many
    subset: int | None = 2  # critics, drawn anew for each batch, whose minimum the target takes; None: all
    actor_over: Literal["min", "mean"] = "mean"  # of all critics, what the policy climbs
    delay: int = 20  # updates of the critics for one of the policy and the temperature
    replay_ratio: Static = 20.0  # updates for each environment step

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "Hopper-v5": {  # the paper's for MuJoCo: the defaults, with its warm-up and entropy; not measured here
                "steps": 125_000, "target_entropy": -1.0,
                "replay": Uniform(capacity=1_000_000, batch_size=256, warmup=5_000),
            },
            "Pendulum-v1": {
                "steps": 5_000, "learning_rate": 1e-3, "torso": Torso(activation="relu", init="uniform"),
                "replay": Uniform(capacity=5_000, batch_size=64, warmup=500),
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4, "critics": 4, "delay": 2}
        replay = Uniform(capacity=200, batch_size=16, warmup=32)
        return {"": (cls(**few, replay=replay, replay_ratio=1.0), "Pendulum-v1")}


DROPPED = Torso(widths=(256, 256), activation="relu", init="uniform", norm="layer", dropout=0.01)


@algorithm(
    name="droq",
    summary="SAC with dropout and layer normalisation in its critics, and 20 updates a step",
    actions="Box with finite bounds",
    aliases=("dropout-q-functions",),
)
class DroQ(SAC):
    """Dropout Q-functions (Hiraoka et al. 2022, algorithm 2): what REDQ does with ten critics, with two.

    Units of the critics are dropped in all passes, those of the targets too. The policy climbs the mean of the critics,
    once in 20 updates.
    """

    actor_over: Literal["min", "mean"] = "mean"  # of all critics, what the policy climbs
    delay: int = 20  # updates of the critics for one of the policy and the temperature
    replay_ratio: Static = 20.0  # updates for each environment step
    critic_torso: Torso | None = DROPPED  # the network below each critic's head

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "Hopper-v5": {  # the paper's for MuJoCo: the defaults, with its warm-up and entropy; not measured here
                "steps": 125_000, "target_entropy": -1.0,
                "replay": Uniform(capacity=1_000_000, batch_size=256, warmup=5_000),
            },
            "Pendulum-v1": {
                "steps": 5_000, "learning_rate": 1e-3, "torso": Torso(activation="relu", init="uniform"),
                "critic_torso": Torso(activation="relu", init="uniform", norm="layer", dropout=0.01),
                "replay": Uniform(capacity=5_000, batch_size=64, warmup=500),
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4, "delay": 2}
        critics = Torso(widths=(16, 16), norm="layer", dropout=0.1)
        replay = Uniform(capacity=200, batch_size=16, warmup=32)
        return {"": (cls(**few, replay=replay, replay_ratio=1.0, critic_torso=critics), "Pendulum-v1")}
