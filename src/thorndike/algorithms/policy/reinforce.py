"""REINFORCE: the policy gradient of whole episodes."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive
from thorndike.envs.masks import mask_size
from thorndike.nets.actor_critic import Actor, Carry, Core, Params, act, blank, look, networks
from thorndike.nets.observations import shown
from thorndike.nets.policy import SPACES
from thorndike.nets.recurrent import GRU
from thorndike.nets.torso import Torso, example
from thorndike.ops.optimise import Adam, Optimiser, begin, clip_norm, descend
from thorndike.ops.returns import returns_to_go
from thorndike.ops.rewards import Scaling, scaled, scaling
from thorndike.ops.statistics import counted, normalise_tree, running_tree, update_tree
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition


class Steps(NamedTuple):
    """Steps of each environment in the order of time, [T, E, ...]."""

    obs: PyTree
    mask: Array | None  # of legal actions; None where all are
    first: Array
    action: Array  # in network units
    reward: Array  # scaled
    ended: Array


class Mean(NamedTuple):
    """An exponential moving average, and how much of it is data: it begins as zeros, which `value` leaves out."""

    sum: Array
    weight: Array

    @property
    def value(self) -> Array:
        """The average; 0 of nothing."""
        return self.sum / jnp.maximum(self.weight, 1e-8)

    def update(self, x: Array, where: Array, decay: Array | float) -> Mean:
        """With the mean of x, where `where` is set, as the newest value; as it is where `where` is set nowhere."""
        keep = jnp.where(where.any(), decay, 1.0)
        mean = jnp.where(where, x, 0.0).sum() / jnp.maximum(where.sum(), 1)
        return Mean(keep * self.sum + (1 - keep) * mean, keep * self.weight + (1 - keep))


class State(NamedTuple):
    """All that changes."""

    params: Params
    optimiser: Any
    clock: Clock
    statistics: PyTree  # of observations; () where they are not normalised
    scaling: Scaling | tuple[()]  # of rewards; () where they are left as they are
    past: Steps  # [H, E, ...], the last steps: those of the episodes under way are among them
    returns: Mean  # of the returns that were learned from


@algorithm(
    name="reinforce",
    summary="the policy gradient of whole episodes, with a learned baseline, a running mean or none",
    actions="Discrete, MultiDiscrete, MultiBinary, Box, Dict or Tuple of these",
    aliases=("vpg", "vanilla-policy-gradient", "monte-carlo-policy-gradient"),
)
class REINFORCE:
    """REINFORCE (Williams 1992), the policy gradient of whole episodes, by returns-to-go less a baseline:

    ∇J(θ) = E[ Σ_t ∇ log π_θ(a_t | s_t) (G_t - b(s_t)) ],   G_t = Σ_{k≥t} γ^(k-t) r_k

    The baseline b leaves the mean of the gradient as it is and makes its variance smaller: the running mean of returns,
    or V(s), which regresses G. As usual, the factor γ^t of the discounted objective is left out. The sum is over the
    steps of the episodes that ended in a rollout, divided by the rollout's steps. The steps of an episode are kept
    until it ends; in one that spans rollouts, the first were chosen by slightly older parameters. V is learned whatever
    the baseline: the return of an episode that was cut includes V of its last observation.
    """

    learning_rate: NonNegative = Linear(3e-3)  # step size
    discount: Fraction = 0.99  # γ
    baseline: Literal["learned", "mean", "none"] = "learned"  # b: V(s), the running mean of returns, or 0
    mean_decay: Fraction = 0.9  # what the running mean keeps of itself with each rollout
    entropy_coefficient: NonNegative = 0.0  # weight of the entropy bonus
    value_coefficient: NonNegative = 0.5  # weight of the loss of V
    max_grad_norm: Positive = 0.5  # the gradients of policy and critic are each scaled down to this norm
    normalize_observation: bool = True  # floats, by running mean and variance, which are saved with the actor
    normalize_reward: bool = True  # divide by the running standard deviation of the discounted return
    horizon: int | None = None  # steps of an episode that are kept, the last; None: the environment's time limit
    shared_torso: bool = False  # one network below both heads
    log_std: float = 0.0  # initial log standard deviation of continuous actions, in units of half the range
    torso: Torso = Torso()  # the network below the heads
    core: Core | None = None  # memory behind the torso
    optimiser: Optimiser = Adam(eps=1e-5)
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 64  # steps of each environment between two gradient steps

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.num_envs, self.rollout_length, 1 if self.horizon is None else self.horizon)
        require(min(sizes) > 0, "num_envs, rollout_length and horizon must be positive")
        require(self.torso.dropout is None, "REINFORCE does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Discrete, MultiDiscrete, MultiBinary and Box actions; episodes of limited length."""
        if not isinstance(spec.action, SPACES):
            return f"REINFORCE does not know how to act in {spec.action}"
        if self.horizon is None and spec.horizon is None:
            return (
                "REINFORCE learns from whole episodes, and this environment has no time limit: say how many steps the "
                "longest episode has, REINFORCE(horizon=1000), on the command line --horizon 1000"
            )
        return None

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, optimiser, statistics, and room for the steps of the episodes under way."""
        kept = (self.horizon or spec.horizon or 1) - 1  # an episode that ends with the next step has no more before it
        spec = shown(spec, self.normalize_observation)
        params = networks(key, spec, self.torso, self.core, self.shared_torso, self.log_std)
        mask, no = jnp.ones(mask_size(spec.action), bool) if spec.masked else None, jnp.bool_(False)
        action = params.policy.head(jnp.zeros(params.policy.torso.features), mask).mode()
        one = Steps(example(spec.observation), mask, no, action, jnp.float32(0), ~no)
        return State(
            params,
            begin(self.descent, params),  # type: ignore[arg-type]
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            running_tree(one.obs) if self.normalize_observation else (),
            scaling(self.num_envs) if self.normalize_reward else (),
            jax.tree.map(
                lambda x: jnp.broadcast_to(x, (kept, self.num_envs, *x.shape)), one
            ),  # ended: not learned from
            Mean(jnp.float32(0), jnp.float32(0)),
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

    def cut_value(self, state: State, steps: Transition, trail: Carry) -> Array:
        """V(s') of steps [T, E] that ended an episode without terminating it, else 0; `trail` is that of the steps."""

        def looked_at():
            return state.params.ahead(normalise_tree(state.statistics, steps.next_obs), trail)

        value = jax.lax.cond(steps.truncated.any(), looked_at, lambda: jnp.zeros_like(steps.reward))
        return jnp.where(steps.truncated, value, 0.0)

    def loss(self, params: Params, steps: Steps, returns: Array, whole: Array, b: Array) -> tuple[Array, Metrics]:
        """-Σ log π(a | s) (G - b) / N, the critic's loss and the entropy bonus, over the steps where `whole`.

        N is the number of steps of a rollout; all arguments [H + T, E, ...].
        """
        pi, value, _ = params(steps.obs, steps.mask, steps.first, blank(self.core, self.shared_torso, self.num_envs))
        total = lambda x: jnp.where(whole, x, 0.0).sum() / (self.num_envs * self.rollout_length)  # noqa: E731
        entropies = pi.entropy()
        advantage = returns - (jax.lax.stop_gradient(value) if self.baseline == "learned" else b)
        policy_loss = -total(pi.log_prob(steps.action) * advantage)
        value_loss = total((value - returns) ** 2)
        loss = policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * total(entropies)
        return loss, {
            "loss": loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropies.mean(),
            "value": value.mean(),
        }

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One gradient step on the episodes that ended in the rollout [T, E]; none where none did."""
        steps = rollout.steps
        reward, scaling = scaled(state.scaling, steps, self.discount)
        action = state.params.policy.head.actions.from_environment(steps.action)
        new = Steps(steps.obs, steps.info.get("mask"), steps.first, action, reward, steps.ended)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), state.past, new)
        seen = both._replace(obs=normalise_tree(state.statistics, both.obs))

        trail = state.params(seen.obs, None, seen.first, blank(self.core, self.shared_torso, self.num_envs))[2]
        cut = self.cut_value(state, steps, state.params.last(trail, self.rollout_length))
        after = jnp.concatenate([jnp.zeros_like(state.past.reward), cut])
        returns, at = returns_to_go(both.reward, after, both.ended, both.first, self.discount)
        whole = at >= both.reward.shape[0] - self.rollout_length  # the episode ended in this rollout
        b = state.returns.value if self.baseline == "mean" else jnp.float32(0)

        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.params, seen, returns, whole, b)
        limited = Params(*(clip_norm(part, self.max_grad_norm) for part in gradient))
        moved = descend(self.descent, limited, state.optimiser, state.params)
        params, optimiser, norms = jax.tree.map(
            lambda new, old: jnp.where(whole.any(), new, old),
            moved,
            (state.params, state.optimiser, jax.tree.map(jnp.zeros_like, moved[2])),
        )
        norms |= {"gradient_norm": optax.tree.norm(gradient)}

        statistics = update_tree(state.statistics, steps.obs)
        if jax.tree.leaves(statistics):
            metrics |= {"observations": counted(statistics)}
        past = jax.tree.map(lambda x: x[self.rollout_length :], both)
        mean = state.returns.update(returns, whole, self.mean_decay)
        metrics |= {"returns": mean.value, "learned_steps": whole.sum(), **norms}
        return State(params, optimiser, state.clock, statistics, scaling, past, mean), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {"CartPole-v1": {"steps": 200_000}}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {
            "torso": Torso(widths=(16, 16)),
            "learning_rate": 3e-3,
            "num_envs": 4,
            "rollout_length": 32,
            "horizon": 64,
        }
        longer = few | {"horizon": 200, "rollout_length": 150, "num_envs": 2}
        return {
            "": (cls(**few), "CartPole-v1"),
            "with a running mean": (cls(**few, baseline="mean"), "CartPole-v1"),
            "with memory": (
                cls(**longer, core=GRU(width=8)),
                "Pendulum-v1",
            ),
        }
