"""Behavioural cloning."""

from __future__ import annotations

from typing import Any

import jax
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.configuration import algorithm, require
from thorndike.domains import NonNegative, Positive
from thorndike.nets.imitator import Actor, Policy, State, act, blank, look
from thorndike.nets.torso import Torso
from thorndike.ops.optimise import Adam, Optimiser, descend
from thorndike.ops.statistics import observed
from thorndike.types import Array, Look, Metrics, PyTree, Spec, Timestep, Transition


@algorithm(
    name="bc",
    summary="behavioural cloning, from a dataset",
    actions="Discrete, MultiDiscrete, MultiBinary, Box",
    aliases=("behavioral-cloning", "behavioural-cloning"),
)
class BC:
    """Behavioural cloning (Pomerleau 1989): maximum likelihood of a dataset's actions. L(θ) = -E[log π_θ(a | s)].

    It learns from a dataset, not from an environment: `td.train(td.BC(), env, dataset=...)`; a step is a batch.
    """

    learning_rate: NonNegative = 1e-3  # step size
    max_grad_norm: Positive = 10.0  # the gradient is scaled down to this norm
    entropy_coefficient: NonNegative = 1e-3  # weight of an entropy bonus, against too much certainty
    log_std: float = 0.0  # initial log standard deviation of continuous actions, in units of half the range
    normalize_observation: bool = False  # by running mean and variance, which are saved with the actor
    batch_size: int = 64
    torso: Torso = Torso()  # the network below the head
    optimiser: Optimiser = Adam()

    offline = True
    players = None  # whoever made the recorded moves
    num_envs = rollout_length = 1

    def check(self) -> None:
        """A batch has transitions."""
        require(self.batch_size > 0, f"batch_size must be positive, got {self.batch_size}")

    def supports(self, spec: Spec) -> str | None:
        """Discrete, MultiDiscrete, MultiBinary and Box actions."""
        if isinstance(spec.action, (Discrete, MultiDiscrete, MultiBinary, Box)):
            return None
        return f"BC does not know how to act in {spec.action}"

    def init(self, key: Array, spec: Spec) -> State:
        """Network and optimiser."""
        return blank(key, spec, self.torso, self.normalize_observation, self.log_std, self.descent)

    @property
    def descent(self):
        """The optimiser on the clipped gradient."""
        return self.optimiser.build(self.learning_rate, self.max_grad_norm)

    def actor(self, state: State) -> Actor:
        """The policy with its observation statistics."""
        return Actor(state.policy, state.statistics)

    def carry(self, actor: Actor, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """π(· | s)."""
        return look(actor, carry, now)

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its mode."""
        return act(actor, carry, now, key, explore)

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """One gradient step on a batch [B, ...]; only its observations, actions and masks are read."""
        statistics, batch = observed(state.statistics, batch)
        action = state.policy.head.actions.from_environment(batch.action)

        def loss(policy: Policy):
            pi = policy(batch.obs, batch.info.get("mask"), key)
            likelihood, entropy = pi.log_prob(action).mean(), pi.entropy().mean()
            metrics = {"log_likelihood": likelihood, "entropy": entropy}
            return -likelihood - self.entropy_coefficient * entropy, metrics

        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.policy)
        policy, optimiser, norms = descend(self.descent, gradient, state.optimiser, state.policy)
        return State(policy, optimiser, state.clock, statistics), {"loss": value, **metrics, **norms}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "batch_size": 8, "normalize_observation": True}
        return {"": (cls(**few), "Pendulum-v1")}
