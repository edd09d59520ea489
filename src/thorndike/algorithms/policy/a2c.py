"""Advantage actor-critic."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive
from thorndike.nets.actor_critic import Actor, Carry, Core, Params, act, blank, look, networks, values
from thorndike.nets.observations import shown
from thorndike.nets.policy import SPACES
from thorndike.nets.recurrent import GRU
from thorndike.nets.torso import Torso, example
from thorndike.ops.losses import explained_variance, standardise
from thorndike.ops.optimise import Optimiser, RMSProp, begin, clip_norm, descend
from thorndike.ops.returns import gae
from thorndike.ops.rewards import Scaling, scaled, scaling
from thorndike.ops.statistics import counted, normalise_tree, running_tree, update_tree
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep


class State(NamedTuple):
    """All that changes."""

    params: Params
    optimiser: Any
    clock: Clock
    statistics: PyTree  # of observations; () where they are not normalised
    scaling: Scaling | tuple[()]  # of rewards; () where they are left as they are


@algorithm(
    name="a2c",
    summary="advantage actor-critic: one gradient step on each short rollout of many environments",
    actions="Discrete, MultiDiscrete, MultiBinary, Box, Dict or Tuple of these",
    aliases=("advantage-actor-critic", "actor-critic"),
)
class A2C:
    """Advantage actor-critic, the synchronous form of A3C (Mnih et al. 2016, algorithm S3).

    ∇ log π(a_t | s_t) A_t + β ∇ H(π(· | s_t)),   A_t = Σ_{i<k} γⁱ r_{t+i} + γᵏ V(s_{t+k}) - V(s_t)

    where t + k is the end of the rollout or of the episode; the critic regresses A + V. With `trace` below 1 the
    advantages are generalised ones (Schulman et al. 2016). It is PPO with one pass over one minibatch, without
    clipping and with RMSProp (Huang et al. 2022).
    """

    learning_rate: NonNegative = Linear(3e-3)  # step size
    discount: Fraction = 0.99  # γ
    trace: Fraction = 1.0  # λ of the advantage estimates; 1: as many steps as the rollout has
    normalize_advantage: bool = False  # over the rollout
    entropy_coefficient: NonNegative = 0.0  # β, weight of the entropy bonus
    value_coefficient: NonNegative = 0.5  # weight of the critic's loss
    max_grad_norm: Positive = 0.5  # the gradients of policy and critic are each scaled down to this norm
    normalize_observation: bool = True  # floats, by running mean and variance, which are saved with the actor
    normalize_reward: bool = True  # divide by the running standard deviation of the discounted return
    shared_torso: bool = False  # one network below both heads
    log_std: float = 0.0  # initial log standard deviation of continuous actions, in units of half the range
    torso: Torso = Torso()  # the network below the heads
    core: Core | None = None  # memory behind the torso
    optimiser: Optimiser = RMSProp()
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 8  # steps of each environment between two gradient steps

    def check(self) -> None:
        """Positive sizes."""
        require(min(self.num_envs, self.rollout_length) > 0, "num_envs and rollout_length must be positive")
        require(self.torso.dropout is None, "A2C does not use Torso.dropout: leave it out")
        require(
            not (self.normalize_advantage and self.num_envs * self.rollout_length == 1),
            "one advantage less the mean of its rollout is 0: with rollouts of 1 set normalize_advantage to False",
        )
        require(
            self.core is None or self.rollout_length > 1,
            "with a core, rollout_length must be above 1: it is how far learning goes back in time",
        )

    def supports(self, spec: Spec) -> str | None:
        """Discrete, MultiDiscrete, MultiBinary and Box actions, and Dict or Tuple of these."""
        if isinstance(spec.action, SPACES):
            return None
        return f"A2C does not know how to act in {spec.action}"

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, optimiser, statistics."""
        spec = shown(spec, self.normalize_observation)
        params = networks(key, spec, self.torso, self.core, self.shared_torso, self.log_std)
        return State(
            params,
            begin(self.descent, params),  # type: ignore[arg-type]
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            running_tree(example(spec.observation)) if self.normalize_observation else (),
            scaling(self.num_envs) if self.normalize_reward else (),
        )

    @property
    def descent(self):
        """The optimiser; gradients are clipped before it."""
        return self.optimiser.build(self.learning_rate)

    def actor(self, state: State) -> Actor:
        """Policy and critic with their observation statistics."""
        return Actor(*state.params, state.statistics, state.scaling.scale if state.scaling else jnp.float32(1))

    def carry(self, actor: Actor, n: int) -> Carry:
        """Zeros for every network that remembers."""
        return blank(self.core, self.shared_torso, n)

    def look(self, actor: Actor, carry: Carry, now: Timestep, explore: bool) -> tuple[Look, Carry]:
        """π(· | s) and V(s)."""
        return look(actor, carry, now)

    def act(self, actor: Actor, carry: Carry, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its mode."""
        return act(actor, carry, now, key, explore)

    def loss(self, params: Params, rollout: Rollout, obs: PyTree, advantage: Array, target: Array):
        """-log π(a | s) A, the critic's loss and the entropy bonus: means over the rollout [T, E], and metrics."""
        steps = rollout.steps
        pi, value, _ = params(obs, steps.info.get("mask"), steps.first, rollout.carry)
        action = params.policy.head.actions.from_environment(steps.action)
        advantage = standardise(advantage) if self.normalize_advantage else advantage
        policy_loss = -(pi.log_prob(action) * advantage).mean()
        value_loss, entropy = ((value - target) ** 2).mean(), pi.entropy().mean()
        loss = policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * entropy
        return loss, {
            "loss": loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
        }

    def gradient(self, state: State, rollout: Rollout) -> tuple[Params, State, Metrics]:
        """The gradient on a rollout [T, E], each part scaled down to its limit, and the state with the statistics of
        the rollout added."""
        steps = rollout.steps
        reward, scaling = scaled(state.scaling, steps, self.discount)
        value, next_value = values(state.params, state.statistics, rollout)
        advantage = gae(reward, value, next_value, steps.terminated, steps.ended, self.discount, self.trace)
        target = advantage + value
        obs = normalise_tree(state.statistics, steps.obs)
        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.params, rollout, obs, advantage, target)
        limited = Params(*(clip_norm(part, self.max_grad_norm) for part in gradient))
        statistics = update_tree(state.statistics, steps.obs)
        if jax.tree.leaves(statistics):
            metrics |= {"observations": counted(statistics)}
        metrics |= {"explained_variance": explained_variance(value, target), "value": value.mean()}
        metrics |= {"gradient_norm": optax.tree.norm(gradient)}
        return limited, state._replace(statistics=statistics, scaling=scaling), metrics

    def apply(self, state: State, gradient: Params) -> tuple[State, Metrics]:
        """The state after one step along a gradient."""
        params, optimiser, norms = descend(self.descent, gradient, state.optimiser, state.params)
        return state._replace(params=params, optimiser=optimiser), {"update_norm": norms["update_norm"]}

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One gradient step on the rollout [T, E]."""
        gradient, state, metrics = self.gradient(state, rollout)
        state, norms = self.apply(state, gradient)
        return state, metrics | norms

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "CartPole-v1": {"steps": 200_000},
            "LunarLander-v3": {  # rl-baselines3-zoo's
                "steps": 200_000, "rollout_length": 5, "discount": 0.995, "learning_rate": Linear(8.3e-4),
                "entropy_coefficient": 1e-5, "normalize_observation": False, "normalize_reward": False,
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "learning_rate": 3e-3, "num_envs": 4}
        return {
            "": (cls(**few), "CartPole-v1"),
            "with memory": (cls(**few, core=GRU(width=8)), "Pendulum-v1"),
        }
