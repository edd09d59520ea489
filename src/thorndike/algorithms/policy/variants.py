"""Variants of PPO that differ from it in their defaults."""

from __future__ import annotations

import dataclasses
from typing import Any

from thorndike.algorithms.policy.ppo import PPO
from thorndike.configuration import algorithm
from thorndike.ops.penalty import KLPenalty
from thorndike.schedules import Linear


@algorithm(
    name="ppo-kl",
    summary="PPO with an adaptive penalty on the KL divergence in the place of clipping",
    actions="Discrete, MultiDiscrete, MultiBinary, Box, Dict or Tuple of these",
    aliases=("ppo-penalty", "adaptive-kl-ppo"),
)
class PPOKL(PPO):
    """PPO with an adaptive KL penalty: E[ ρ A - β KL(π_old || π_θ) ] (Schulman et al. 2017, section 4)."""

    penalty: KLPenalty | None = KLPenalty()  # on the KL divergence, in the place of clipping

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "CartPole-v1": {"steps": 100_000, "learning_rate": Linear(1e-3)},
            "LunarLander-v3": super().presets()["LunarLander-v3"],
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """PPO's, with a target that a few steps reach."""
        near = KLPenalty(target=1e-5)
        return {name: (dataclasses.replace(case, penalty=near), env) for name, (case, env) in super().small().items()}
