"""IMPALA: an actor-critic that corrects for the age of the policy that acted."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thorndike.algorithms.policy.a3c import compiled
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive
from thorndike.nets.actor_critic import Carry, Core, Critic, Params, Policy, act, blank, look, networks, values
from thorndike.nets.observations import shown
from thorndike.nets.policy import SPACES
from thorndike.nets.recurrent import LSTM
from thorndike.nets.torso import Torso, example
from thorndike.ops.losses import explained_variance
from thorndike.ops.optimise import Optimiser, RMSProp, begin, clip_norm, descend
from thorndike.ops.rewards import Scaling, scaled, scaling
from thorndike.ops.statistics import counted, normalise_tree, running_tree, update_tree
from thorndike.ops.vtrace import vtrace
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep


class Actor(NamedTuple):
    """What acting needs, and how many updates made it."""

    policy: Policy
    critic: Critic
    statistics: PyTree
    scale: Array  # of values: what rewards were divided by
    version: Array


class State(NamedTuple):
    """All that changes."""

    params: Params
    optimiser: Any
    clock: Clock
    statistics: PyTree  # of observations; () where they are not normalised
    scaling: Scaling | tuple[()]  # of rewards; () where they are left as they are
    updates: Array
    older: tuple[Actor, ...]  # those of the last updates, the oldest first: `lag` of them


@algorithm(
    name="impala",
    summary="actor-critic with V-trace, which corrects for actors that lag behind the learner",
    actions="Discrete, MultiDiscrete, MultiBinary, Box, Dict or Tuple of these",
    aliases=("v-trace", "importance-weighted-actor-learner"),
)
class IMPALA:
    """Importance weighted actor-learner architecture (Espeholt et al. 2018): one gradient step on each rollout,

    ∇ log π(a_t | s_t) A_t + β ∇ H(π(· | s_t)) - η ∇ (v_t - V(s_t))²

    with the targets v and the advantages A of V-trace, which are right for the present policy although an older one
    acted. With `lag` the policy that acts is that many updates old, as where actors are apart from the learner;
    `staleness` among the metrics is how many updates lie between acting and learning.
    """

    learning_rate: NonNegative = Linear(3e-3)  # step size
    discount: Fraction = 0.99  # γ
    trace: Fraction = 1.0  # λ of V-trace
    rho: Positive = 1.0  # ρ̄, limit of the importance ratios in errors and advantages
    c: Positive = 1.0  # c̄, limit of those in the traces
    entropy_coefficient: NonNegative = 0.0  # β, weight of the entropy bonus
    value_coefficient: NonNegative = 0.5  # η, weight of the critic's loss
    max_grad_norm: Positive = 0.5  # the gradients of policy and critic are each scaled down to this norm
    normalize_observation: bool = True  # floats, by running mean and variance, which are saved with the actor
    normalize_reward: bool = True  # divide by the running standard deviation of the discounted return
    actors: int = 0  # threads that act, each with num_envs host environments of its own; 0: none
    lag: int = 0  # updates between the parameters that act and the newest
    shared_torso: bool = False  # one network below both heads
    log_std: float = 0.0  # initial log standard deviation of continuous actions, in units of half the range
    torso: Torso = Torso()  # the network below the heads
    core: Core | None = None  # memory behind the torso
    optimiser: Optimiser = RMSProp()
    num_envs: int = 16  # environments that are stepped side by side
    rollout_length: int = 16  # steps of each environment between two gradient steps

    def check(self) -> None:
        """Positive sizes."""
        require(min(self.num_envs, self.rollout_length) > 0, "num_envs and rollout_length must be positive")
        require(0 <= self.lag <= 64, f"IMPALA.lag must lie between 0 and 64, got {self.lag}: that many copies are kept")
        require(0 <= self.actors <= 256, f"IMPALA.actors must lie between 0 and 256, got {self.actors}")
        require(not (self.actors and self.lag), "IMPALA.lag is for one actor in turn: with actors leave it out")
        require(self.torso.dropout is None, "IMPALA does not use Torso.dropout: leave it out")
        require(
            self.core is None or self.rollout_length > 1,
            "with a core, rollout_length must be above 1: it is how far learning goes back in time",
        )

    def supports(self, spec: Spec) -> str | None:
        """Discrete, MultiDiscrete, MultiBinary and Box actions, and Dict or Tuple of these."""
        if isinstance(spec.action, SPACES):
            return compiled(self, spec)
        return f"IMPALA does not know how to act in {spec.action}"

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, optimiser, statistics; those who act have the first parameters."""
        spec = shown(spec, self.normalize_observation)
        params = networks(key, spec, self.torso, self.core, self.shared_torso, self.log_std)
        state = State(
            params,
            begin(self.descent, params),  # type: ignore[arg-type]
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            running_tree(example(spec.observation)) if self.normalize_observation else (),
            scaling(self.num_envs) if self.normalize_reward else (),
            jnp.int32(0),
            (),
        )
        copy = lambda: jax.tree.map(jnp.copy, self.newest(state))  # noqa: E731
        return state._replace(older=tuple(copy() for _ in range(self.lag)))

    @property
    def descent(self):
        """The optimiser; gradients are clipped before it."""
        return self.optimiser.build(self.learning_rate)

    def newest(self, state: State) -> Actor:
        """Policy and critic as they are now."""
        scale = state.scaling.scale if state.scaling else jnp.float32(1)
        return Actor(*state.params, state.statistics, scale, state.updates)

    def actor(self, state: State) -> Actor:
        """Policy and critic with their observation statistics, of `lag` updates ago."""
        return state.older[0] if self.lag else self.newest(state)

    def adopted(self, state: State) -> State:
        """A state whose parameters came from elsewhere: those that act are the same."""
        return state._replace(older=tuple(jax.tree.map(jnp.copy, self.newest(state)) for _ in range(self.lag)))

    def carry(self, actor: Actor, n: int) -> Carry:
        """Zeros for every network that remembers."""
        return blank(self.core, self.shared_torso, n)

    def look(self, actor: Actor, carry: Carry, now: Timestep, explore: bool) -> tuple[Look, Carry]:
        """π(· | s) and V(s)."""
        return look(actor, carry, now)  # type: ignore[arg-type]

    def act(self, actor: Actor, carry: Carry, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its mode; `extras` say log μ(a | s) and the version of μ."""
        action, carry, extras = act(actor, carry, now, key, explore)  # type: ignore[arg-type]
        return action, carry, {**extras, "version": jnp.broadcast_to(actor.version, now.reward.shape)}

    def loss(self, params: Params, state: State, rollout: Rollout, reward: Array) -> tuple[Array, Metrics]:
        """-log π(a | s) A, the critic's loss and the entropy bonus: means over the rollout [T, E], and metrics."""
        steps = rollout.steps
        obs = normalise_tree(state.statistics, steps.obs)
        pi, value, _ = params(obs, steps.info.get("mask"), steps.first, rollout.carry)
        log_prob = pi.log_prob(params.policy.head.actions.from_environment(steps.action))
        before, next_value = values(state.params, state.statistics, rollout)
        log_ratio = jax.lax.stop_gradient(log_prob) - steps.extras["log_prob"]
        ends = steps.terminated, steps.ended
        limits = self.discount, self.trace, self.rho, self.c
        target, advantage = vtrace(log_ratio, reward, before, next_value, *ends, *limits)
        policy_loss = -(log_prob * advantage).mean()
        value_loss, entropy = ((value - target) ** 2).mean(), pi.entropy().mean()
        loss = policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * entropy
        staleness = state.updates - steps.extras["version"]
        return loss, {
            "loss": loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "importance_ratio": jnp.exp(log_ratio).mean(),
            "staleness": staleness.mean(),
            "staleness_max": staleness.max(),
            "explained_variance": explained_variance(before, target),
            "value": before.mean(),
        }

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One gradient step on the rollout [T, E]."""
        reward, scaling = scaled(state.scaling, rollout.steps, self.discount)
        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.params, state, rollout, reward)
        limited = Params(*(clip_norm(part, self.max_grad_norm) for part in gradient))
        params, optimiser, norms = descend(self.descent, limited, state.optimiser, state.params)
        statistics = update_tree(state.statistics, rollout.steps.obs)
        if jax.tree.leaves(statistics):
            metrics |= {"observations": counted(statistics)}
        older = (*state.older[1:], self.newest(state)) if self.lag else ()
        if self.lag:
            metrics |= {"drift": drift(self.newest(state), state.older)}
        state = State(params, optimiser, state.clock, statistics, scaling, state.updates + 1, older)
        return state, metrics | norms | {"gradient_norm": optax.tree.norm(gradient)}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {
            "torso": Torso(widths=(16, 16)),
            "learning_rate": 3e-3,
            "num_envs": 4,
            "rollout_length": 8,
            "lag": 2,
        }
        return {
            "": (cls(**few), "CartPole-v1"),
            "with memory": (cls(**few, core=LSTM(width=8)), "Pendulum-v1"),
        }


def drift(newest: Actor, older: tuple[Actor, ...]) -> Array:
    """How far all older parameters and statistics are from the newest: the norm of the differences."""
    far = [jax.tree.map(jnp.subtract, newest._replace(version=()), actor._replace(version=())) for actor in older]  # type: ignore[arg-type]
    return optax.tree.norm(far)
