"""Twin delayed deep deterministic policy gradient, and DDPG, of which it is an improvement."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive, Share, Static
from thorndike.memory.hindsight import Hindsight
from thorndike.memory.prioritised import Prioritised
from thorndike.memory.replay import Uniform
from thorndike.nets.continuous import Critic, Deterministic, least, stacked, unsuited, values
from thorndike.nets.observations import shown
from thorndike.nets.torso import Torso, example
from thorndike.ops.keys import normal
from thorndike.ops.noise import Gaussian, Noise, OrnsteinUhlenbeck
from thorndike.ops.optimise import Adam, Optimiser, begin, delayed, descend, polyak
from thorndike.ops.returns import n_step, td_target
from thorndike.ops.statistics import normalise_tree, observed, running_tree
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Spec, Timestep, Transition


class Actor(NamedTuple):
    """What acting needs: the networks, and the statistics that their observations are normalised with."""

    policy: Deterministic
    critics: Critic
    statistics: PyTree


class Optimisers(NamedTuple):
    """One per objective."""

    policy: Any
    critics: Any


class Networks(NamedTuple):
    """What has a copy that follows it slowly."""

    policy: Deterministic  # φ
    critics: Critic  # θ_i, leaves [N, ...]


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    policy: Deterministic  # φ
    critics: Critic  # θ_i, leaves [N, ...]
    targets: Networks  # φ⁻ and θ⁻_i
    optimisers: Optimisers
    clock: Clock
    updates: Array
    statistics: PyTree  # of observations; () where they are not normalised


@algorithm(
    name="td3",
    summary="twin delayed DDPG: twin critics, target smoothing, a delayed policy",
    actions="Box with finite bounds",
    aliases=("twin-delayed-ddpg",),
)
class TD3:
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, algorithm 1).

    a' = clip(μ(s'; φ⁻) + clip(σ̃ N(0, 1), -c, c), -1, 1),   y = r + γ (1 - terminated) min_i Q_i(s', a'; θ⁻)
    L(θ_i) = E[(Q_i(s, a) - y)²],   and in every `delay`-th update L(φ) = -E[Q_1(s, μ(s; φ))], then all targets
    """

    learning_rate: NonNegative = 1e-3  # step size, of policy and critics
    discount: Fraction = 0.99  # γ
    tau: Share = 0.005  # θ⁻ <- θ⁻ + τ (θ - θ⁻), and so φ⁻, with each update of the policy
    delay: int = 2  # updates of the critics for one of the policy and the targets
    smoothing: NonNegative = 0.2  # σ̃, standard deviation of the target's noise, in halves of an action's range
    smoothing_clip: Positive = 0.5  # c, its largest size
    critics: int = 2  # how many; the target takes their minimum
    exploration: Noise = Gaussian(std=0.1)  # added to actions in training
    replay_ratio: Static = 1.0  # updates for each environment step
    normalize_observation: bool = False  # by running mean and variance, which are saved with the actor
    replay: Uniform | Prioritised | Hindsight = Uniform(
        capacity=1_000_000, batch_size=256, warmup=1_000
    )  # the memory of transitions
    torso: Torso = Torso(widths=(256, 256), activation="relu", init="uniform")  # the network below each head
    optimiser: Optimiser = Adam()
    num_envs: int = 1  # environments that are stepped side by side
    rollout_length: int = 1  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.critics, self.delay, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "critics, delay, replay_ratio, num_envs and rollout_length must be positive")
        require(self.torso.dropout is None, f"{type(self).__name__} does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Box actions with finite bounds."""
        return unsuited(type(self).__name__, "one action for each state", spec)

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, targets equal to them, and two optimisers."""
        spec = shown(spec, self.normalize_observation)
        keys = jax.random.split(key, self.critics + 1)
        policy, critics = Deterministic(keys[0], self.torso, spec), stacked(keys[1:], self.torso, spec)
        return State(
            policy,
            critics,
            jax.tree.map(jnp.copy, Networks(policy, critics)),
            Optimisers(begin(self.descent, policy), begin(self.descent, critics)),
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            jnp.int32(0),
            running_tree(example(spec.observation)) if self.normalize_observation else (),
        )

    @property
    def descent(self):
        """The optimiser of both."""
        return self.optimiser.build(self.learning_rate)

    def adopted(self, state: State) -> State:
        """A state whose networks came from elsewhere: the targets follow."""
        return state._replace(targets=jax.tree.map(jnp.copy, Networks(state.policy, state.critics)))

    def actor(self, state: State) -> Actor:
        """Policy and critics with their observation statistics."""
        return Actor(state.policy, state.critics, state.statistics)

    def carry(self, actor: Actor, n: int) -> PyTree:
        """What the noise remembers."""
        return self.exploration.carry(n, actor.policy.actions.dimensions)

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """min_i Q_i(s, μ(s))."""
        obs = normalise_tree(actor.statistics, now.obs)
        return Look(value=least(values(actor.critics, obs, actor.policy(obs)))), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """μ(s), with noise where it explores, clipped to [-1, 1]."""
        action, actions = actor.policy(normalise_tree(actor.statistics, now.obs)), actor.policy.actions
        if explore:
            noise, carry = self.exploration.draw(key, carry, now.first, actions.dimensions)
            action = jnp.clip(action + noise, -1.0, 1.0)
        return actions.to_environment(action), carry, {}

    def target(self, state: State, batch: Transition, key: Array) -> Array:
        """y, [B]."""
        next_action = state.targets.policy(batch.next_obs)
        noise = jnp.clip(self.smoothing * normal(key, next_action.shape), -self.smoothing_clip, self.smoothing_clip)
        next_action = jnp.clip(next_action + noise, -1.0, 1.0)
        next_value = least(values(state.targets.critics, batch.next_obs, next_action))
        reward, discount = n_step(batch, self.discount)
        return td_target(reward, next_value, batch.terminated, discount)

    def critic_loss(self, critics: Critic, batch: Transition, action: Array, target: Array):
        """Σ_i ½ (Q_i(s, a) - y)², averaged over the batch, with the weights of a prioritised one."""
        q = values(critics, batch.obs, action)
        loss = (batch.extras.get("weight", 1.0) * 0.5 * (q - target) ** 2).mean(1).sum()
        return loss, {"td_error": jnp.abs(q - target).mean(0), "q_value": q[0].mean()}

    def actor_loss(self, policy: Deterministic, critics: Critic, batch: Transition) -> Array:
        """-Q_1(s, μ(s)), averaged over the batch."""
        first = jax.tree.map(lambda x: x[0], critics)
        return -first(batch.obs, policy(batch.obs)).mean()

    def improved(self, state: State, critics: Critic, batch: Transition) -> tuple[Any, Metrics]:
        """Policy, its optimiser and all targets after one step of the policy, and what there is to tell of it."""
        loss, gradient = jax.value_and_grad(self.actor_loss)(state.policy, critics, batch)
        policy, optimiser, norms = descend(self.descent, gradient, state.optimisers.policy, state.policy)
        targets = polyak(state.targets, Networks(policy, critics), self.tau)
        return (policy, optimiser, targets), {"actor_loss": loss, **{f"actor_{k}": x for k, x in norms.items()}}

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """One step of the critics on a batch [B, ...], and in every `delay`-th one of the policy and the targets."""
        statistics, batch = observed(state.statistics, batch)
        action, updates = state.policy.actions.from_environment(batch.action), state.updates + 1
        target = self.target(state, batch, key)
        critic_grad = jax.value_and_grad(self.critic_loss, has_aux=True)
        (critic_loss, metrics), gradient = critic_grad(state.critics, batch, action, target)
        critics, copt, norms = descend(self.descent, gradient, state.optimisers.critics, state.critics)

        parts = state.policy, state.optimisers.policy, state.targets
        (policy, popt, targets), told = delayed(
            updates, self.delay, lambda: self.improved(state, critics, batch), parts
        )
        metrics |= {"critic_loss": critic_loss, **norms, **told}
        return State(policy, critics, targets, Optimisers(popt, copt), state.clock, updates, statistics), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "HalfCheetah-v5": {  # rl-baselines3-zoo's for MuJoCo
                "steps": 1_000_000, "torso": Torso(widths=(400, 300), activation="relu", init="uniform"),
                "replay": Uniform(capacity=1_000_000, batch_size=256, warmup=10_000),
            },
            "MountainCarContinuous-v0": {  # rl-baselines3-zoo's; not measured here
                "steps": 300_000, "exploration": OrnsteinUhlenbeck(sigma=0.5, dt=0.01),
                "torso": Torso(widths=(400, 300), activation="relu", init="uniform"),
                "replay": Uniform(capacity=300_000, batch_size=256, warmup=100),
            },
            "InvertedPendulum-v5": {
                "steps": 20_000, "torso": Torso(activation="relu", init="uniform"),
                "replay": Uniform(capacity=20_000, batch_size=128, warmup=1_000),
            },
            "LunarLanderContinuous-v3": {  # rl-baselines3-zoo's; not measured here
                "steps": 300_000, "discount": 0.98,
                "torso": Torso(widths=(400, 300), activation="relu", init="uniform"),
                "replay": Uniform(capacity=200_000, batch_size=256, warmup=10_000),
            },
            "Pendulum-v1": {
                "steps": 20_000, "torso": Torso(activation="relu", init="uniform"),
                "replay": Uniform(capacity=20_000, batch_size=128, warmup=500),
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4, "normalize_observation": True}
        replay = Uniform(capacity=200, batch_size=16, warmup=32)
        return {"": (cls(**few, replay=replay, exploration=OrnsteinUhlenbeck()), "Pendulum-v1")}


@algorithm(
    name="ddpg",
    summary="deep deterministic policy gradient",
    actions="Box with finite bounds",
    aliases=("deep-deterministic-policy-gradient",),
)
class DDPG(TD3):
    """Deep deterministic policy gradient (Lillicrap et al. 2016): TD3 with one critic, no smoothing and no delay.

    y = r + γ (1 - terminated) Q(s', μ(s'; φ⁻); θ⁻),   L(θ) = E[(Q(s, a) - y)²],   L(φ) = -E[Q(s, μ(s; φ))]

    The paper's noise is `OrnsteinUhlenbeck()`; white noise does as well (Fujimoto et al. 2018). Its batch normalisation
    and weight decay are not here.
    """

    delay: int = 1  # updates of the critic for one of the policy and the targets
    smoothing: NonNegative = 0.0  # standard deviation of the target's noise; none
    critics: int = 1
