"""Truncated quantile critics: SAC whose critics learn distributions of returns."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from thorndike.algorithms.actor_critic.sac import SAC, State
from thorndike.configuration import algorithm, require
from thorndike.domains import Positive
from thorndike.memory.replay import Uniform
from thorndike.nets.continuous import Critic, values
from thorndike.nets.torso import Torso
from thorndike.ops.distributional import midpoints, quantile_huber
from thorndike.ops.returns import n_step, td_target
from thorndike.types import Array, PyTree, Transition


@algorithm(
    name="tqc",
    summary="truncated quantile critics: SAC with distributions of returns, whose highest quantiles are dropped",
    actions="Box with finite bounds",
    aliases=("truncated-quantile-critics",),
)
class TQC(SAC):
    """Truncated quantile critics (Kuznetsov et al. 2020, algorithm 1).

    Each of N critics says M quantiles of the return. Those of all target critics at (s', a') are sorted, and the N · d
    largest are dropped: z_1 <= ... <= z_{N(M - d)} are left.

    y_j = r + γ (1 - terminated) (z_j - α log π(a' | s')),   a' ~ π(· | s')

    The critics minimise the quantile Huber loss to y, averaged over quantiles and critics. The policy climbs the mean
    of all quantiles of all critics. Temperature and target copies are SAC's.
    """

    critics: int = 5  # N
    quantiles: int = 25  # M, of each critic
    drop: int = 2  # d, of the largest quantiles for each critic: the more, the lower the estimates
    kappa: Positive = 1.0  # κ, the error from which on the loss is linear, in units of reward

    def check(self) -> None:
        """Something is left of the quantiles, and SAC's own choices are not asked for."""
        super().check()
        kept = 0 <= self.drop < self.quantiles
        require(kept, f"drop must be at least 0 and less than the {self.quantiles} quantiles, got {self.drop}")
        plain = self.subset is None and self.actor_over == "min"
        require(plain, "TQC pools the quantiles of all critics: leave subset and actor_over as they are")

    @property
    def outputs(self) -> int:
        """How many numbers each critic says."""
        return self.quantiles

    def target(self, state: State, batch: Transition, key: Array) -> Array:
        """y, [B, N (M - d)]."""
        next_action, log_prob = state.policy(batch.next_obs).sample_and_log_prob(key)
        next_z = values(state.targets, batch.next_obs, next_action, self.noise(key))
        kept = self.truncated(next_z) - self.alpha(state) * log_prob[:, None]
        reward, discount = n_step(batch, self.discount)
        return td_target(
            reward[:, None], kept, batch.terminated[:, None], jnp.broadcast_to(discount, reward.shape)[:, None]
        )

    def truncated(self, z: Array) -> Array:
        """The quantiles of all critics [N, B, M], sorted, without the largest N · d: [B, N (M - d)]."""
        pooled = jnp.moveaxis(z, 0, 1).reshape(z.shape[1], -1)
        return jnp.sort(pooled)[:, : pooled.shape[1] - self.critics * self.drop]

    def critic_loss(self, critics: Critic, batch: Transition, action: Array, target: Array, key: Array | None = None):
        """The quantile Huber loss averaged over quantiles, critics and batch, with the weights of a prioritised one."""
        z = values(critics, batch.obs, action, key)
        each = quantile_huber(
            z, midpoints(self.quantiles), jnp.broadcast_to(target, (z.shape[0], *target.shape)), self.kappa
        )
        loss = (batch.extras.get("weight", 1.0) * each).mean() / self.quantiles
        q = z.mean((0, 2))
        return loss, {"td_error": jnp.abs(q - target.mean(1)), "q_value": q.mean()}

    def climbed(self, critics: Critic, obs: PyTree, action: Array, key: Array | None = None) -> Array:
        """What the policy climbs, [B]: the mean of all quantiles of all critics."""
        return values(critics, obs, action, key).mean((0, 2))

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "HalfCheetah-v5": {  # the paper's, but for a warm-up of 10,000 steps; not measured here
                "steps": 1_000_000, "drop": 0, "replay": Uniform(capacity=1_000_000, batch_size=256, warmup=10_000),
                "critic_torso": Torso(widths=(512, 512, 512), activation="relu", init="uniform"),
            },
            "InvertedPendulum-v5": {
                "steps": 20_000, "learning_rate": 1e-3, "critics": 2, "torso": Torso(activation="relu", init="uniform"),
                "replay": Uniform(capacity=20_000, batch_size=128, warmup=1_000),
            },
            "Pendulum-v1": {
                "steps": 20_000, "learning_rate": 1e-3, "critics": 2, "torso": Torso(activation="relu", init="uniform"),
                "replay": Uniform(capacity=20_000, batch_size=128, warmup=500),
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4, "normalize_observation": True}
        replay = Uniform(capacity=200, batch_size=16, warmup=32)
        return {"": (cls(**few, replay=replay, critics=2, quantiles=5, drop=1), "Pendulum-v1")}
