"""Soft actor-critic."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive, Share, Static
from thorndike.memory.hindsight import Hindsight
from thorndike.memory.prioritised import Prioritised
from thorndike.memory.replay import Uniform
from thorndike.nets.continuous import Critic, Policy, least, stacked, unsuited, values
from thorndike.nets.observations import shown
from thorndike.nets.torso import Torso, example
from thorndike.ops.noise import StateDependent
from thorndike.ops.optimise import Adam, Optimiser, begin, delayed, descend, polyak
from thorndike.ops.returns import n_step, td_target
from thorndike.ops.statistics import normalise_tree, observed, running_tree
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Spec, Timestep, Transition


class Actor(NamedTuple):
    """What acting needs: the networks, and the statistics that their observations are normalised with."""

    policy: Policy
    critics: Critic
    statistics: PyTree


class Optimisers(NamedTuple):
    """One per objective."""

    policy: Any
    critics: Any
    temperature: Any


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    policy: Policy  # φ
    critics: Critic  # θ_i, leaves [N, ...]
    targets: Critic  # θ⁻_i, leaves [N, ...]
    log_temperature: Array  # log α
    optimisers: Optimisers
    clock: Clock
    updates: Array
    statistics: PyTree  # of observations; () where they are not normalised


@algorithm(
    name="sac",
    summary="soft actor-critic, twin critics, automatic temperature",
    actions="Box with finite bounds",
    aliases=("soft-actor-critic",),
)
class SAC:
    """Soft actor-critic with twin critics and an automatic temperature (Haarnoja et al. 2018, "Algorithms and
    Applications").

    y = r + γ (1 - terminated) (min_i Q_i(s', a'; θ⁻) - α log π(a' | s')),   a' ~ π(· | s')
    L(θ_i) = E[(Q_i(s, a) - y)²],   L(φ) = E[α log π(a | s) - min_i Q_i(s, a)],   L(α) = E[-α (log π(a | s) + H̄)]

    With more critics, of which a target takes only some, many updates for each step do no harm (REDQ and DroQ, in
    `actor_critic/redq.py`).
    """

    learning_rate: NonNegative = 3e-4  # step size, of all three
    discount: Fraction = 0.99  # γ
    tau: Share = 0.005  # θ⁻ <- θ⁻ + τ (θ - θ⁻) after each update
    temperature: NonNegative | None = None  # α; None: learned, so that the entropy stays near target_entropy
    initial_temperature: Positive = 1.0  # where a learned α starts
    target_entropy: float | None = None  # H̄ of actions scaled to [-1, 1]; None: minus their dimension
    critics: int = 2  # how many
    subset: int | None = None  # critics, drawn anew for each batch, whose minimum the target takes; None: all
    actor_over: Literal["min", "mean"] = "min"  # of all critics, what the policy climbs
    delay: int = 1  # updates of the critics for one of the policy and the temperature
    exploration: StateDependent | None = None  # gSDE: noise that is a function of the state; None: of each step anew
    replay_ratio: Static = 1.0  # updates for each environment step
    normalize_observation: bool = False  # by running mean and variance, which are saved with the actor
    replay: Uniform | Prioritised | Hindsight = Uniform(
        capacity=1_000_000, batch_size=256, warmup=1_000
    )  # the memory of transitions
    torso: Torso = Torso(widths=(256, 256), activation="relu", init="uniform")  # the network below each head
    critic_torso: Torso | None = None  # that of the critics; None: as the policy's
    optimiser: Optimiser = Adam()
    num_envs: int = 1  # environments that are stepped side by side
    rollout_length: int = 1  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.critics, self.delay, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "critics, delay, replay_ratio, num_envs and rollout_length must be positive")
        some = self.subset is None or 0 < self.subset <= self.critics
        require(some, f"subset is how many of the {self.critics} critics a target takes, got {self.subset}")
        name = type(self).__name__
        policy = "torso" if self.critic_torso else "critic_torso in the place of torso"
        require(self.torso.dropout is None, f"{name} drops units of its critics only: give Torso.dropout to {policy}")

    def supports(self, spec: Spec) -> str | None:
        """Box actions with finite bounds."""
        return unsuited(type(self).__name__, "a squashed Gaussian", spec)

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, targets equal to the critics, and three optimisers."""
        spec = shown(spec, self.normalize_observation)
        keys = jax.random.split(key, self.critics + 1)
        policy = Policy(keys[0], self.torso, spec, self.exploration)
        critics = stacked(keys[1:], self.below, spec, self.outputs)
        log_temperature = jnp.log(jnp.float32(self.initial_temperature))
        return State(
            policy,
            critics,
            jax.tree.map(jnp.copy, critics),
            log_temperature,
            Optimisers(*(begin(self.descent, p) for p in (policy, critics, log_temperature))),
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            jnp.int32(0),
            running_tree(example(spec.observation)) if self.normalize_observation else (),
        )

    @property
    def outputs(self) -> int | None:
        """How many numbers each critic says; None: Q itself."""
        return None

    @property
    def below(self) -> Torso:
        """The network below each critic's head."""
        return self.critic_torso or self.torso

    def noise(self, key: Array) -> Array | None:
        """A key for the critics' dropout; None where they have none."""
        return None if self.below.dropout is None else jax.random.fold_in(key, 1)

    @property
    def descent(self):
        """The optimiser of each of the three."""
        return self.optimiser.build(self.learning_rate)

    def adopted(self, state: State) -> State:
        """A state whose critics came from elsewhere: the targets follow."""
        return state._replace(targets=jax.tree.map(jnp.copy, state.critics))

    def actor(self, state: State) -> Actor:
        """Policy and critics with their observation statistics."""
        return Actor(state.policy, state.critics, state.statistics)

    def carry(self, actor: Actor, n: int) -> PyTree:
        """What state-dependent noise remembers, or nothing."""
        if self.exploration is None:
            return ()
        return self.exploration.carry(n, actor.policy.torso.features, actor.policy.actions.dimensions)

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """π(· | s), and Q(s, a) of its median, as the policy climbs it."""
        obs = normalise_tree(actor.statistics, now.obs)
        pi = actor.policy(obs)
        return Look(pi, self.climbed(actor.critics, obs, pi.mode())), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its median."""
        obs, actions = normalise_tree(actor.statistics, now.obs), actor.policy.actions
        if explore and self.exploration is not None:
            carry = self.exploration.draw(key, carry, now.first)
            return actions.to_environment(actor.policy.explored(obs, carry.noise)), carry, {}
        pi = actor.policy(obs)
        return actions.to_environment(pi.sample(key) if explore else pi.mode()), carry, {}

    def alpha(self, state: State) -> Array:
        """The temperature α."""
        return jnp.exp(state.log_temperature) if self.temperature is None else jnp.float32(self.temperature)

    def target(self, state: State, batch: Transition, key: Array) -> Array:
        """y, [B]."""
        next_action, log_prob = state.policy(batch.next_obs).sample_and_log_prob(key)
        targets = state.targets
        if self.subset is not None:
            some = jax.random.permutation(jax.random.fold_in(key, 0), self.critics)[: self.subset]
            targets = jax.tree.map(lambda x: x[some], targets)
        next_q = least(values(targets, batch.next_obs, next_action, self.noise(key)))
        reward, discount = n_step(batch, self.discount)
        return td_target(reward, next_q - self.alpha(state) * log_prob, batch.terminated, discount)

    def critic_loss(self, critics: Critic, batch: Transition, action: Array, target: Array, key: Array | None = None):
        """Σ_i ½ (Q_i(s, a) - y)², averaged over the batch, with the weights of a prioritised one."""
        q = values(critics, batch.obs, action, key)
        loss = (batch.extras.get("weight", 1.0) * 0.5 * (q - target) ** 2).mean(1).sum()
        return loss, {"td_error": jnp.abs(q - target).mean(0), "q_value": q[0].mean()}

    def climbed(self, critics: Critic, obs: PyTree, action: Array, key: Array | None = None) -> Array:
        """What the policy climbs, [B]: the least or the mean of all Q_i(s, a)."""
        q = values(critics, obs, action, key)
        return least(q) if self.actor_over == "min" else q.mean(0)

    def actor_loss(self, policy: Policy, critics: Critic, alpha: Array, batch: Transition, key: Array):
        """α log π(a | s) - Q(s, a), averaged over the batch, and the entropy."""
        action, log_prob = policy(batch.obs).sample_and_log_prob(key)
        loss = (alpha * log_prob - self.climbed(critics, batch.obs, action, self.noise(key))).mean()
        return loss, -log_prob.mean()

    def improved(self, state: State, critics: Critic, batch: Transition, key: Array) -> tuple[Any, Metrics]:
        """Policy, temperature and their optimisers after one step of each, and what there is to tell of it."""
        alpha, optimisers = self.alpha(state), state.optimisers
        actor_grad = jax.value_and_grad(self.actor_loss, has_aux=True)
        (actor_loss, entropy), gradient = actor_grad(state.policy, critics, alpha, batch, key)
        policy, popt, norms = descend(self.descent, gradient, optimisers.policy, state.policy)

        log_temperature, topt, moved = state.log_temperature, optimisers.temperature, norms["update_norm"] ** 2
        if self.temperature is None:
            goal = -float(state.policy.actions.dimensions) if self.target_entropy is None else self.target_entropy
            surplus = entropy - goal  # more entropy than asked: lower α
            log_temperature, topt, step = descend(self.descent, surplus * alpha, topt, log_temperature)
            moved += step["update_norm"] ** 2
        told = {"actor_loss": actor_loss, "entropy": entropy, "actor_gradient_norm": norms["gradient_norm"]}
        return (policy, log_temperature, popt, topt), {**told, "actor_update_norm": jnp.sqrt(moved)}

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """Critics, then, in every `delay`-th update, policy and temperature, then targets: one step on a batch."""
        tkey, akey = jax.random.split(key)
        optimisers, updates = state.optimisers, state.updates + 1
        statistics, batch = observed(state.statistics, batch)
        action = state.policy.actions.from_environment(batch.action)
        target = self.target(state, batch, tkey)
        critic_grad = jax.value_and_grad(self.critic_loss, has_aux=True)
        noise = self.noise(jax.random.fold_in(tkey, 2))
        (critic_loss, metrics), gradient = critic_grad(state.critics, batch, action, target, noise)
        critics, copt, norms = descend(self.descent, gradient, optimisers.critics, state.critics)

        parts = state.policy, state.log_temperature, optimisers.policy, optimisers.temperature
        improve = lambda: self.improved(state, critics, batch, akey)  # noqa: E731
        (policy, log_temperature, popt, topt), told = delayed(updates, self.delay, improve, parts)
        targets = polyak(state.targets, critics, self.tau)
        metrics |= {"critic_loss": critic_loss, "ent_coef": self.alpha(state), **norms, **told}
        optimisers = Optimisers(popt, copt, topt)
        return State(policy, critics, targets, log_temperature, optimisers, state.clock, updates, statistics), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "HalfCheetah-v5": {  # rl-baselines3-zoo's for MuJoCo: the paper's, with a warm-up of 10,000 steps
                "steps": 1_000_000, "replay": Uniform(capacity=1_000_000, batch_size=256, warmup=10_000),
            },
            "Reach": {
                "steps": 20_000, "learning_rate": 1e-3, "discount": 0.95,
                "torso": Torso(activation="relu", init="uniform"),
                "replay": Hindsight(capacity=20_000, batch_size=128, warmup=500),
            },
            "MountainCarContinuous-v0": {  # rl-baselines3-zoo's; not measured here
                "steps": 50_000, "discount": 0.9999, "tau": 0.01, "temperature": 0.1, "rollout_length": 32,
                "exploration": StateDependent(every=32, log_std=-3.67),
                "torso": Torso(activation="relu", init="uniform"),
                "replay": Uniform(capacity=50_000, batch_size=512, warmup=1),
            },
            "Reactor": {
                "steps": 40_000, "learning_rate": 1e-3, "discount": 0.95, "num_envs": 4,
                "torso": Torso(activation="relu", init="uniform"),
                "replay": Uniform(capacity=40_000, batch_size=128, warmup=1_000),
            },
            "InvertedPendulum-v5": {
                "steps": 20_000, "learning_rate": 1e-3, "torso": Torso(activation="relu", init="uniform"),
                "replay": Uniform(capacity=20_000, batch_size=128, warmup=1_000),
            },
            "LunarLanderContinuous-v3": {  # rl-baselines3-zoo's; not measured here
                "steps": 500_000, "learning_rate": Linear(7.3e-4), "tau": 0.01,
                "torso": Torso(widths=(400, 300), activation="relu", init="uniform"),
                "replay": Uniform(capacity=500_000, batch_size=256, warmup=10_000),
            },
            "Pendulum-v1": {
                "steps": 20_000, "learning_rate": 1e-3, "torso": Torso(activation="relu", init="uniform"),
                "replay": Uniform(capacity=20_000, batch_size=128, warmup=500),
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4, "normalize_observation": True}
        replay = Uniform(capacity=200, batch_size=16, warmup=32)
        depends = StateDependent(every=3, log_std=-1.0)
        return {
            "": (cls(**few, replay=replay), "Pendulum-v1"),
            "with gSDE": (cls(**few, replay=replay, exploration=depends), "Pendulum-v1"),
        }
