"""Trust region policy optimisation."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive, Share
from thorndike.nets.actor_critic import Actor, Carry, Critic, Params, Policy, act, blank, look, networks, values
from thorndike.nets.observations import shown
from thorndike.nets.policy import SPACES
from thorndike.nets.torso import Torso, example
from thorndike.ops.losses import explained_variance, standardise
from thorndike.ops.minibatches import passes
from thorndike.ops.optimise import Adam, Optimiser, begin, descend
from thorndike.ops.returns import gae
from thorndike.ops.rewards import Scaling, scaled, scaling
from thorndike.ops.statistics import counted, normalise_tree, running_tree, update_tree
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep


class State(NamedTuple):
    """All that changes."""

    params: Params
    optimiser: Any  # of the critic
    clock: Clock
    statistics: PyTree  # of observations; () where they are not normalised
    scaling: Scaling | tuple[()]  # of rewards; () where they are left as they are


class Batch(NamedTuple):
    """What the policy's step is computed from, [T, E, ...]."""

    obs: PyTree
    mask: Array | None
    action: Array  # in network units
    advantage: Array


class Searched(NamedTuple):
    """Where a line search ended."""

    params: Array  # all of the policy's, as one vector
    accepted: Array  # False: no step was good enough, and the parameters are the old ones
    kl: Array  # of the old policy from the new one
    gain: Array  # in the surrogate


@algorithm(
    name="trpo",
    summary="trust region policy optimisation: natural gradient by conjugate gradients, and a line search",
    actions="Discrete, MultiDiscrete, MultiBinary, Box, Dict or Tuple of these",
    aliases=("trust-region-policy-optimization",),
)
class TRPO:
    """Trust region policy optimisation (Schulman et al. 2015, appendix C).

    max_θ E[ρ A]  subject to  E[KL(π_old || π_θ)] ≤ δ,   ρ = π_θ(a | s) / π_old(a | s)

    The direction x solves F x = g by conjugate gradients, where g is the gradient of E[ρ A] and F the Hessian of the
    divergence at π_old, which is the Fisher matrix; products F v need no matrix. The step is √(2 δ / xᵀ F x) x,
    shortened until the objective rises and the divergence is at most δ. The critic has a network of its own and is
    fitted to A + V by gradient descent.
    """

    learning_rate: NonNegative = 1e-3  # step size of the critic
    discount: Fraction = 0.99  # γ
    trace: Fraction = 0.95  # λ of the advantage estimates
    max_kl: Positive = 0.01  # δ
    cg_steps: int = 15  # of the conjugate gradients, at most
    damping: NonNegative = 0.1  # added to the diagonal of F
    line_steps: int = 10  # lengths that the line search tries
    shrink: Share = 0.8  # the ratio of one to the next
    critic_epochs: int = 10  # passes of the critic over a rollout
    minibatch_size: int = 128  # transitions in a step of the critic, or about so many
    normalize_observation: bool = True  # floats, by running mean and variance, which are saved with the actor
    normalize_reward: bool = True  # divide by the running standard deviation of the discounted return
    log_std: float = 0.0  # initial log standard deviation of continuous actions, in units of half the range
    torso: Torso = Torso()  # the network below each head
    optimiser: Optimiser = Adam()  # of the critic
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 128  # steps of each environment between two rounds of learning

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.num_envs, self.rollout_length, self.cg_steps, self.line_steps, self.minibatch_size)
        require(
            min(sizes) > 0,
            "num_envs, rollout_length, cg_steps, line_steps and minibatch_size must be positive",
        )
        require(self.critic_epochs > 0, "critic_epochs must be positive")
        require(self.num_envs * self.rollout_length > 1, "one advantage less the mean of its rollout is 0")
        require(self.torso.dropout is None, "TRPO does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Discrete, MultiDiscrete, MultiBinary and Box actions, and Dict or Tuple of these."""
        if isinstance(spec.action, SPACES):
            return None
        return f"TRPO does not know how to act in {spec.action}"

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, the critic's optimiser, statistics."""
        spec = shown(spec, self.normalize_observation)
        params = networks(key, spec, self.torso, None, False, self.log_std)
        return State(
            params,
            begin(self.descent, params.critic),  # type: ignore[arg-type]
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            running_tree(example(spec.observation)) if self.normalize_observation else (),
            scaling(self.num_envs) if self.normalize_reward else (),
        )

    @property
    def descent(self):
        """The critic's optimiser."""
        return self.optimiser.build(self.learning_rate)

    def actor(self, state: State) -> Actor:
        """Policy and critic with their observation statistics."""
        return Actor(*state.params, state.statistics, state.scaling.scale if state.scaling else jnp.float32(1))

    def carry(self, actor: Actor, n: int) -> Carry:
        """Nothing: the networks have no memory."""
        return blank(None, False, n)

    def look(self, actor: Actor, carry: Carry, now: Timestep, explore: bool) -> tuple[Look, Carry]:
        """π(· | s) and V(s)."""
        return look(actor, carry, now)

    def act(self, actor: Actor, carry: Carry, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its mode."""
        return act(actor, carry, now, key, explore)

    def step(self, policy: Policy, batch: Batch) -> tuple[Policy, Metrics]:
        """The policy after one step inside of the trust region, and metrics."""
        start, restore = ravel_pytree(policy)
        old = distribution(policy, batch)
        old_log_prob = old.log_prob(batch.action)

        def surrogate(flat: Array) -> Array:  # E[ρ A]
            log_ratio = distribution(restore(flat), batch).log_prob(batch.action) - old_log_prob
            return (jnp.exp(log_ratio) * batch.advantage).mean()

        def divergence(flat: Array) -> Array:  # E[KL(π_old || π)]
            return old.kl(distribution(restore(flat), batch)).mean()

        before, gradient = jax.value_and_grad(surrogate)(start)
        product = fisher(divergence, start, self.damping)
        direction, _ = cg(product, gradient, maxiter=self.cg_steps, tol=1e-6)
        curvature = direction @ product(direction)  # xᵀ F x
        usable = curvature > 0  # not where F is singular to rounding, nor where there is no gradient
        step = jnp.where(usable, jnp.sqrt(2 * self.max_kl / jnp.where(usable, curvature, 1.0)), 0.0) * direction
        found = self.search(start, step, before, surrogate, divergence)
        return restore(found.params), {
            "kl": found.kl,
            "step_accepted": found.accepted,
            "surrogate_gain": found.gain,
            "policy_gradient_loss": -before,
            "policy_gradient_norm": jnp.linalg.norm(gradient),
            "policy_update_norm": jnp.linalg.norm(found.params - start),
            "entropy": old.entropy().mean(),
        }

    def search(self, start: Array, step: Array, before: Array, surrogate: Any, divergence: Any) -> Searched:
        """The first of start + shrinkⁱ step whose surrogate is above `before` within the trust region, else `start`."""

        def going(carry):
            i, found = carry
            return (i < self.line_steps) & ~found.accepted

        def trial(carry):
            i, _ = carry
            params = start + self.shrink ** i.astype(jnp.float32) * step
            kl, gain = divergence(params), surrogate(params) - before
            good = (gain > 0) & (kl <= self.max_kl)
            zero = jnp.float32(0)
            kept = jnp.where(good, params, start), good, jnp.where(good, kl, zero), jnp.where(good, gain, zero)
            return i + 1, Searched(*kept)

        nothing = Searched(start, jnp.bool_(False), jnp.float32(0), jnp.float32(0))
        return jax.lax.while_loop(going, trial, (jnp.int32(0), nothing))[1]

    def fit(self, critic: Critic, optimiser: Any, obs: PyTree, target: Array, key: Array):
        """The critic and its optimiser after `critic_epochs` passes over obs and target [N, ...], and metrics."""
        size = target.shape[0]
        count = min(max(1, round(size / self.minibatch_size)), size)

        def loss(critic: Critic, obs: PyTree, target: Array) -> Array:
            assert critic.torso is not None
            return ((critic.head(critic.torso(obs))[..., 0] - target) ** 2).mean()  # type: ignore[call-arg, arg-type]

        def minibatch(carry, rows):
            critic, state = carry
            value, gradient = jax.value_and_grad(loss)(critic, *rows)
            critic, state, norms = descend(self.descent, gradient, state, critic)
            return (critic, state), {"value_loss": value, **norms}

        start, rows = (critic, optimiser), (obs, target)
        (critic, optimiser), metrics = passes(minibatch, start, rows, count, self.critic_epochs, key)
        return critic, optimiser, metrics

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One step of the policy, and the critic's passes, on the rollout [T, E]."""
        steps = rollout.steps
        reward, scaling = scaled(state.scaling, steps, self.discount)
        value, next_value = values(state.params, state.statistics, rollout)
        advantage = gae(reward, value, next_value, steps.terminated, steps.ended, self.discount, self.trace)
        target = advantage + value
        obs = normalise_tree(state.statistics, steps.obs)
        action = state.params.policy.head.actions.from_environment(steps.action)
        batch = Batch(obs, steps.info.get("mask"), action, standardise(advantage))
        policy, metrics = self.step(state.params.policy, batch)
        seen, aim = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), (obs, target))
        critic, optimiser, told = self.fit(state.params.critic, state.optimiser, seen, aim, key)

        statistics = update_tree(state.statistics, steps.obs)
        if jax.tree.leaves(statistics):
            metrics |= {"observations": counted(statistics)}
        metrics |= {"explained_variance": explained_variance(value, target), "value": value.mean(), **told}
        return State(Params(policy, critic), optimiser, state.clock, statistics, scaling), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "CartPole-v1": {"steps": 100_000},
            "LunarLander-v3": {  # after rl-baselines3-zoo's
                "steps": 200_000, "num_envs": 2, "rollout_length": 512, "trace": 0.98, "damping": 0.01,
                "critic_epochs": 15, "normalize_observation": False, "normalize_reward": False,
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {
            "torso": Torso(widths=(16, 16)),
            "num_envs": 4,
            "rollout_length": 16,
            "minibatch_size": 32,
            "critic_epochs": 2,
        }
        return {"": (cls(**few), "CartPole-v1"), "continuous": (cls(**few), "Pendulum-v1")}


def distribution(policy: Policy, batch: Batch):
    """π(· | s) of a policy without memory."""
    return policy.head(policy.torso(batch.obs), batch.mask)  # type: ignore[call-arg, arg-type]


def fisher(divergence: Any, at: Array, damping: Array | float):
    """v -> (F + damping I) v, where F is the Hessian of `divergence` at the vector `at`."""
    return lambda v: jax.jvp(jax.grad(divergence), (at,), (v,))[1] + damping * v
