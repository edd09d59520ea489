"""RL²: an agent whose memory is the learning algorithm."""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Dict

from thorndike.algorithms.policy.ppo import PPO
from thorndike.configuration import algorithm
from thorndike.domains import NonNegative
from thorndike.envs.tasks.navigation import Navigation2D
from thorndike.envs.wrappers.trials import Trials
from thorndike.nets.actor_critic import Core
from thorndike.nets.recurrent import GRU
from thorndike.nets.torso import Torso
from thorndike.schedules import Linear
from thorndike.types import Spec

SEEN = {"obs", "action", "reward", "ended"}  # what `td.Trials` shows


@algorithm(
    name="rl2",
    summary="RL²: a network with memory, trained by PPO on trials of a task, learns to learn",
    actions="Discrete or Box, of trials (td.Trials)",
    aliases=("rl-squared",),
)
class RL2(PPO):
    """RL², fast reinforcement learning by slow reinforcement learning (Duan et al. 2016), with PPO as the slow one.

    max_θ E_{task} E[ Σ_{episodes of the trial} Σ_t r_t ],   π_θ(a_t | o_0, ..., a_{t-1}, r_{t-1}, ended_{t-1}, o_t)

    A trial (`td.Trials`) is several episodes of one task, and the episode that PPO learns from: its values reach across
    the inner ends, and the memory is reset where a trial begins. What adapts to a task is the memory alone; the
    parameters stay. The network needs the last action and reward among its observations, so it is for trials only.
    """

    learning_rate: NonNegative = Linear(1.5e-3)  # step size
    epochs: int = 4
    minibatch_size: int = 160
    entropy_coefficient: NonNegative = 0.01
    torso: Torso = Torso(widths=(32,))
    core: Core | None = GRU(width=48)  # what learns within a trial
    num_envs: int = 32  # trials that are played side by side
    rollout_length: int = 20  # steps; best a whole trial

    def supports(self, spec: Spec) -> str | None:
        """Trials, with actions that PPO serves."""
        if not isinstance(spec.observation, Dict) or set(spec.observation.spaces) != SEEN:
            return "RL² learns from trials of several episodes in one task: wrap a family of tasks in td.Trials"
        return super().supports(spec)

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "DoorsTrials": {"steps": 400_000, "rollout_length": 20},
            "BanditTrials": {"steps": 1_600_000, "rollout_length": 100, "minibatch_size": 800},
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, Any]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16,)), "core": GRU(width=8), "num_envs": 4, "rollout_length": 14}
        moving = Trials(env=Navigation2D(max_steps=4), episodes=3)
        return {
            "": (cls(**few, minibatch_size=28), "DoorsTrials"),
            "continuous": (cls(**few, minibatch_size=28), moving),
        }
