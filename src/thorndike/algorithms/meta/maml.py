"""Model-agnostic meta-learning for reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive
from thorndike.envs.batched import Batched
from thorndike.envs.wrappers.trials import SameTask
from thorndike.nets.actor_critic import Policy
from thorndike.nets.policy import SPACES, PolicyHead
from thorndike.nets.torso import Torso
from thorndike.ops.losses import standardise
from thorndike.ops.optimise import Adam, Optimiser, begin, descend
from thorndike.ops.returns import returns_to_go
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition


class Actor(NamedTuple):
    """The policy before it has adapted, θ."""

    policy: Policy


class Adapted(NamedTuple):
    """A policy for each task, θ'_i, leaves [N, ...]."""

    policy: Policy


class State(NamedTuple):
    """All that changes."""

    policy: Policy  # θ
    optimiser: Any
    clock: Clock


class Data(NamedTuple):
    """What the losses read, [T, K, ...] of one task."""

    obs: PyTree
    mask: Array | None
    action: Array  # in network units
    log_prob: Array  # log π(a | s) when it was chosen
    advantage: Array


@algorithm(
    name="maml",
    summary="MAML: initial parameters from which a gradient step or two adapts to a new task",
    actions="Discrete, MultiDiscrete, MultiBinary, Box, Dict or Tuple of these, of families of tasks",
    aliases=("model-agnostic-meta-learning",),
)
class MAML:
    """Model-agnostic meta-learning (Finn et al. 2017): a policy that a few gradient steps adapt to a new task.

    θ'_i = θ - α ∇_θ L(θ; D_i),   L(θ; D) = -E_D[log π_θ(a | s) A],   max_θ Σ_i J(θ'_i; D'_i)

    D_i are trajectories of θ in task i, and D'_i those of θ'_i in the same task. J is PPO's clipped objective on D'_i
    (in the place of the paper's TRPO), and its gradient goes through the inner step. How θ changes the distribution of
    D_i is left out, as in the paper (E-MAML and ProMP have that term). Advantages are returns-to-go less their mean
    over the task's trajectories at the same time, standardised in each task. The environment is a family of tasks, a
    JAX environment with `task`, `begin` and `task_of`, such as `td.Navigation2D()`. Its evaluations are before
    adaptation; the metrics `return_before` and `return_after` are of new tasks in every iteration.
    """

    learning_rate: NonNegative = 3e-3  # step size of θ
    inner_rate: NonNegative = 0.5  # α
    inner_steps: int = 1  # gradient steps of an adaptation, each on trajectories of its own
    tasks: int = 10  # N, in each iteration
    trajectories: int = 10  # K, in each task, for a gradient step
    horizon: int = 100  # steps of a trajectory
    discount: Fraction = 0.99  # γ
    clip: Positive = 0.2  # ε of the objective after adaptation
    epochs: int = 5  # gradient steps of θ in each iteration
    first_order: bool = False  # take the inner gradient for a constant
    max_grad_norm: Positive = 1.0  # the gradient is scaled down to this norm
    log_std: float = -0.5  # initial log standard deviation of continuous actions, in units of half the range
    torso: Torso = Torso(widths=(32, 32), activation="tanh")  # the network below the head
    optimiser: Optimiser = Adam()

    @property
    def num_envs(self) -> int:
        """Environments that are stepped side by side."""
        return self.tasks * self.trajectories

    @property
    def rollout_length(self) -> int:
        """Steps of each environment in an iteration: a trajectory for each inner step, and one with what they made."""
        return (self.inner_steps + 1) * self.horizon

    def check(self) -> None:
        """Positive sizes, and trajectories that have something to compare."""
        sizes = (self.inner_steps, self.tasks, self.horizon, self.epochs)
        require(min(sizes) > 0, "inner_steps, tasks, horizon and epochs must be positive")
        require(self.trajectories > 1, "MAML compares the trajectories of a task: trajectories must be 2 or more")
        require(self.torso.dropout is None, "MAML does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Families of tasks, with actions that policies have a distribution of."""
        if not all(hasattr(spec.model, part) for part in ("task", "begin", "task_of")):
            return (
                "MAML adapts to tasks: it needs a JAX environment that has some, such as Navigation2D, or one whose "
                "numbers are drawn anew by td.Randomised"
            )
        if not isinstance(spec.action, SPACES):
            return f"MAML does not know how to act in {spec.action}"
        return None

    def init(self, key: Array, spec: Spec) -> State:
        """A policy and its optimiser."""
        tkey, hkey = jax.random.split(key)
        torso = self.torso.build(tkey, spec.observation)
        policy = Policy(torso, PolicyHead(hkey, torso.features, spec.action, self.log_std))
        return State(policy, begin(self.descent, policy), Clock(jnp.int32(0), jnp.int32(spec.steps)))  # type: ignore[arg-type]

    @property
    def descent(self):
        """The optimiser on the clipped gradient."""
        return self.optimiser.build(self.learning_rate, self.max_grad_norm)

    def actor(self, state: State) -> Actor:
        """The policy."""
        return Actor(state.policy)

    def carry(self, actor: Actor | Adapted, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """π(· | s) before adaptation."""
        return Look(pi(actor.policy, now.obs, now.info.get("mask"))), carry

    def act(self, actor: Actor | Adapted, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its mode; where each task has one, from that of the environment's task."""

        def one(policy: Policy, obs: PyTree, mask: Array | None, key: Array):
            found = pi(policy, obs, mask)
            action = found.sample(key) if explore else found.mode()
            return policy.head.actions.to_environment(action), found.log_prob(action)

        obs, mask = now.obs, now.info.get("mask")
        if isinstance(actor, Actor):
            action, log_prob = one(actor.policy, obs, mask, key)
        else:
            obs, mask = jax.tree.map(lambda x: x.reshape(self.tasks, -1, *x.shape[1:]), (obs, mask))
            found = jax.vmap(one)(actor.policy, obs, mask, jax.random.split(key, self.tasks))
            action, log_prob = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
        return action, carry, {"log_prob": log_prob}

    def gather(
        self, play: Callable, world: Batched, actor: Actor, carry: PyTree, now: Timestep, key: Array, how: str
    ) -> tuple[Rollout, Timestep, PyTree]:
        """In each task, trajectories of θ, then of what these made of it, and so on."""
        family: Any = world.env
        lasting: Any = SameTask(env=family)
        world = Batched(lasting, self.num_envs)
        tkey, key = jax.random.split(key)
        tasks = jax.vmap(family.task)(jax.random.split(tkey, self.tasks))
        tasks = jax.tree.map(lambda x: jnp.repeat(x, self.trajectories, 0), tasks)
        policy = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.tasks, *x.shape)), actor.policy)
        parts = []
        for i in range(self.inner_steps + 1):
            bkey, pkey, key = jax.random.split(key, 3)
            rollout, now, carry = play(world, Adapted(policy), carry, world.begin(tasks, bkey), pkey, how, self.horizon)
            ends = rollout.steps.truncated.at[-1].set(~rollout.steps.terminated[-1])
            parts.append(rollout.steps._replace(truncated=ends))
            if i < self.inner_steps:
                policy = jax.vmap(self.adapted)(policy, self.data(policy, parts[-1]))
        steps = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
        return rollout._replace(steps=steps), now, carry

    def data(self, policy: Policy, steps: Transition) -> Data:
        """Trajectories of all tasks [T, N K, ...] as data of each, [N, T, K, ...]."""
        split = lambda x: x.reshape(x.shape[0], self.tasks, -1, *x.shape[2:]).swapaxes(0, 1)  # noqa: E731
        none = jnp.zeros_like(steps.reward)
        returns, _ = returns_to_go(steps.reward, none, steps.ended, steps.first, self.discount)
        returns = split(returns)
        advantage = jax.vmap(standardise)(returns - returns.mean(2, keepdims=True))
        action = policy.head.actions.from_environment(steps.action)
        obs, mask, action, log_prob = jax.tree.map(
            split, (steps.obs, steps.info.get("mask"), action, steps.extras["log_prob"])
        )
        return Data(obs, mask, action, log_prob, advantage)

    def adapted(self, policy: Policy, data: Data) -> Policy:
        """θ' after one gradient step on trajectories of θ in one task."""

        def loss(policy: Policy) -> Array:
            return -(pi(policy, data.obs, data.mask).log_prob(data.action) * data.advantage).mean()

        gradient = jax.grad(loss)(policy)
        gradient = jax.lax.stop_gradient(gradient) if self.first_order else gradient
        return jax.tree.map(lambda p, g: p - self.inner_rate * g, policy, gradient)

    def loss(self, policy: Policy, before: tuple[Data, ...], after: Data) -> tuple[Array, Metrics]:
        """The clipped objective of the adapted policies, negated: the mean over tasks [N]."""

        def one(before: tuple[Data, ...], after: Data) -> tuple[Array, Metrics]:
            adapted = policy
            for data in before:
                adapted = self.adapted(adapted, data)
            found = pi(adapted, after.obs, after.mask)
            log_ratio = found.log_prob(after.action) - after.log_prob
            ratio = jnp.exp(log_ratio)
            clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
            objective = jnp.minimum(ratio * after.advantage, clipped * after.advantage).mean()
            kl = ((ratio - 1) - log_ratio).mean()
            return -objective, {"approx_kl": kl, "entropy": found.entropy().mean()}

        loss, metrics = jax.vmap(one)(before, after)
        return loss.mean(), {"policy_gradient_loss": loss.mean(), **jax.tree.map(jnp.mean, metrics)}

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """`epochs` steps of θ on the trajectories after adaptation, through those before it."""
        cut = lambda x: jnp.split(x, self.inner_steps + 1)  # noqa: E731
        leaves, structure = jax.tree.flatten(rollout.steps)
        phases = [jax.tree.unflatten(structure, part) for part in zip(*map(cut, leaves))]
        *before, after = (self.data(state.policy, phase) for phase in phases)
        gradient = jax.grad(partial(self.loss, before=tuple(before), after=after), has_aux=True)

        def step(carry: tuple[Policy, Any], _: None):
            policy, optimiser = carry
            found, metrics = gradient(policy)
            policy, optimiser, norms = descend(self.descent, found, optimiser, policy)
            return (policy, optimiser), {**metrics, **norms}

        carry = state.policy, state.optimiser
        (policy, optimiser), metrics = jax.lax.scan(step, carry, None, length=self.epochs)
        earned = {name: phase.reward.sum(0).mean() for name, phase in zip(("before", "after"), (phases[0], phases[-1]))}
        told = {f"return_{name}": value for name, value in earned.items()}
        return State(policy, optimiser, state.clock), {**jax.tree.map(jnp.mean, metrics), **told}

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {"Navigation2D": {"steps": 1_200_000}}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"tasks": 3, "trajectories": 2, "horizon": 6, "epochs": 2, "torso": Torso(widths=(8,))}
        return {"": (cls(**few), "Navigation2D"), "two steps": (cls(**few, inner_steps=2), "Doors")}


def pi(policy: Policy, obs: PyTree, mask: Array | None) -> Any:
    """π(· | s)."""
    torso: Any = policy.torso
    return policy.head(torso(obs), mask)
