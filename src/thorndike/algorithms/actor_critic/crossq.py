"""CrossQ: SAC without target networks, with batch normalisation in their place."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive, Static
from thorndike.memory.prioritised import Prioritised
from thorndike.memory.replay import Uniform
from thorndike.nets.batch_norm import NormalisedMLP, Training
from thorndike.nets.continuous import least, unsuited
from thorndike.nets.mlp import Dense
from thorndike.nets.observations import shown
from thorndike.nets.policy import Actions
from thorndike.nets.torso import Network, Torso
from thorndike.ops.distributions import TanhNormal
from thorndike.ops.optimise import Adam, Optimiser, begin, delayed, descend
from thorndike.ops.returns import n_step, td_target
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Spec, Timestep, Transition


class Normalised(eqx.Module):
    """Observations and an extra vector to `outputs` numbers, [B, outputs], all layers normalised over the batch."""

    encoder: Network
    mlp: NormalisedMLP
    head: Dense
    actions: Actions = eqx.field(static=True)

    def __init__(self, key: Array, torso: Torso, spec: Spec, extra: int, outputs: int):
        ekey, mkey, hkey = jax.random.split(key, 3)
        self.encoder = dataclasses.replace(torso, widths=()).build(ekey, spec.observation, extra)
        sizes = (self.encoder.features, *((64, 64) if torso.widths is None else torso.widths))
        self.mlp = NormalisedMLP(mkey, sizes, torso.activation or "relu", torso.init)
        self.head = Dense(hkey, sizes[-1], outputs, init="uniform")
        self.actions = Actions.of(spec.action)

    def __call__(
        self, obs: PyTree, extra: Array | None, moments: PyTree, training: Training | None = None
    ) -> tuple[Array, PyTree]:
        """The numbers, and the running statistics after this batch."""
        mlp = jax.lax.stop_gradient(self.mlp) if getattr(self.encoder, "frozen", False) else self.mlp
        features, moments = mlp(self.encoder(obs, extra), moments, training)
        return self.head(features), moments

    def blank(self) -> PyTree:
        """Running statistics of nothing yet."""
        return self.mlp.blank()


class Running(NamedTuple):
    """The running statistics of both kinds of networks."""

    policy: PyTree
    critics: PyTree  # leaves [N, ...]


class Actor(NamedTuple):
    """What acting needs: the networks, and the running statistics that they are normalised with."""

    policy: Normalised
    critics: Normalised
    running: Running


class Optimisers(NamedTuple):
    """One per objective."""

    policy: Any
    critics: Any
    temperature: Any


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    policy: Normalised  # φ
    critics: Normalised  # θ_i, leaves [N, ...]
    running: Running
    log_temperature: Array  # log α
    optimisers: Optimisers
    clock: Clock
    updates: Array


@algorithm(
    name="crossq",
    summary="SAC with batch renormalisation and without target networks",
    actions="Box with finite bounds",
    aliases=(),
)
class CrossQ:
    """CrossQ (Bhatt et al. 2024): batch normalisation makes SAC's critics stable without target networks.

    Both halves of the Bellman error are one batch, so that layers are normalised by the statistics of their mixture:

    q_i, q'_i = Q_i([(s, a); (s', a')]; θ),   a' ~ π(· | s')
    y = r + γ (1 - terminated) (min_i q'_i - α log π(a' | s')),   L(θ_i) = E[(q_i - y)²],   no gradient through y

    The policy's batch is that of s alone, and it sees the critics by their running statistics.
    """

    learning_rate: NonNegative = 1e-3  # step size, of all three
    discount: Fraction = 0.99  # γ
    delay: int = 3  # updates of the critics for one of the policy and the temperature
    momentum: Fraction = 0.99  # what an update keeps of the running statistics
    renorm_after: int = 100_000  # updates from which on batches are corrected towards the running statistics
    temperature: NonNegative | None = None  # α; None: learned, so that the entropy stays near target_entropy
    initial_temperature: Positive = 1.0  # where a learned α starts
    target_entropy: float | None = None  # H̄ of actions scaled to [-1, 1]; None: minus their dimension
    critics: int = 2  # how many; the target takes their minimum
    replay_ratio: Static = 1.0  # updates for each environment step
    replay: Uniform | Prioritised = Uniform(
        capacity=1_000_000, batch_size=256, warmup=1_000
    )  # the memory of transitions
    torso: Torso = Torso(widths=(256, 256), activation="relu", init="uniform")  # the policy's network below its head
    critic_torso: Torso = Torso(widths=(1024, 1024), activation="relu", init="uniform")  # that of each critic
    optimiser: Optimiser = Adam(b1=0.5)
    num_envs: int = 1  # environments that are stepped side by side
    rollout_length: int = 1  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes, batches with a variance, and no other normalisation."""
        sizes = (self.critics, self.delay, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "critics, delay, replay_ratio, num_envs and rollout_length must be positive")
        require(self.renorm_after >= 0, f"renorm_after must be at least 0, got {self.renorm_after}")
        require(self.replay.batch_size > 1, "CrossQ normalises over a batch: replay.batch_size must be at least 2")
        for name, torso in (("torso", self.torso), ("critic_torso", self.critic_torso)):
            plain = torso.dropout is None and torso.norm == "none"
            require(plain, f"CrossQ normalises all layers over the batch: leave out dropout and norm of its {name}")

    def supports(self, spec: Spec) -> str | None:
        """Box actions with finite bounds."""
        return unsuited("CrossQ", "a squashed Gaussian", spec)

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, statistics and three optimisers."""
        spec, d = shown(spec, False), Actions.of(spec.action).dimensions
        keys = jax.random.split(key, self.critics + 1)
        policy = Normalised(keys[0], self.torso, spec, 0, 2 * d)
        critics = jax.vmap(lambda key: Normalised(key, self.critic_torso, spec, d, 1))(keys[1:])
        log_temperature = jnp.log(jnp.float32(self.initial_temperature))
        return State(
            policy,
            critics,
            Running(policy.blank(), jax.vmap(lambda critic: critic.blank())(critics)),
            log_temperature,
            Optimisers(*(begin(self.descent, p) for p in (policy, critics, log_temperature))),
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            jnp.int32(0),
        )

    @property
    def descent(self):
        """The optimiser of each of the three."""
        return self.optimiser.build(self.learning_rate)

    def actor(self, state: State) -> Actor:
        """Policy and critics with their running statistics."""
        return Actor(state.policy, state.critics, state.running)

    def carry(self, actor: Actor, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """π(· | s), and min_i Q_i(s, a) of its median."""
        pi, _ = distribution(actor.policy, now.obs, actor.running.policy)
        q, _ = values(actor.critics, now.obs, pi.mode(), actor.running.critics)
        return Look(pi, least(q)), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its median."""
        pi, _ = distribution(actor.policy, now.obs, actor.running.policy)
        return actor.policy.actions.to_environment(pi.sample(key) if explore else pi.mode()), carry, {}

    def alpha(self, state: State) -> Array:
        """The temperature α."""
        return jnp.exp(state.log_temperature) if self.temperature is None else jnp.float32(self.temperature)

    def training(self, state: State) -> Training:
        """How this update's passes treat their batches."""
        return Training(self.momentum, state.updates >= self.renorm_after)

    def critic_loss(self, critics: Normalised, state: State, batch: Transition, next_action: Array, log_prob: Array):
        """Σ_i ½ (q_i - y)², averaged over the batch, from one pass over both halves; metrics and running statistics."""
        action = state.policy.actions.from_environment(batch.action)
        join = lambda x, y: jnp.concatenate([x, y])  # noqa: E731
        obs, actions = jax.tree.map(join, batch.obs, batch.next_obs), join(action, next_action)
        both, running = values(critics, obs, actions, state.running.critics, self.training(state))
        q, next_q = jnp.split(both, 2, 1)
        reward, discount = n_step(batch, self.discount)
        target = td_target(reward, least(next_q) - self.alpha(state) * log_prob, batch.terminated, discount)
        error = q - jax.lax.stop_gradient(target)
        loss = (batch.extras.get("weight", 1.0) * 0.5 * error**2).mean(1).sum()
        return loss, ({"td_error": jnp.abs(error).mean(0), "q_value": q[0].mean()}, running)

    def actor_loss(
        self, policy: Normalised, critics: Normalised, state: State, running: Running, obs: PyTree, key: Any
    ):
        """α log π(a | s) - min_i Q_i(s, a) over the batch; the entropy, and the policy's running statistics."""
        pi, after = distribution(policy, obs, running.policy, self.training(state))
        action, log_prob = pi.sample_and_log_prob(key)
        q, _ = values(critics, obs, action, running.critics)
        return (self.alpha(state) * log_prob - least(q)).mean(), (-log_prob.mean(), after)

    def improved(self, state: State, critics: Normalised, running: Running, obs: PyTree, key: Array):
        """Policy, its statistics, temperature and their optimisers after one step, and what there is to tell of it."""
        optimisers, alpha = state.optimisers, self.alpha(state)
        actor_grad = jax.value_and_grad(self.actor_loss, has_aux=True)
        (loss, (entropy, moments)), gradient = actor_grad(state.policy, critics, state, running, obs, key)
        policy, popt, norms = descend(self.descent, gradient, optimisers.policy, state.policy)
        log_temperature, topt = state.log_temperature, optimisers.temperature
        if self.temperature is None:
            goal = -float(policy.actions.dimensions) if self.target_entropy is None else self.target_entropy
            surplus = entropy - goal  # more entropy than asked: lower α
            log_temperature, topt, _ = descend(self.descent, surplus * alpha, topt, log_temperature)
        told = {"actor_loss": loss, "entropy": entropy, **{f"actor_{name}": x for name, x in norms.items()}}
        return (policy, moments, log_temperature, popt, topt), told

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """Critics, then, in every `delay`-th update, policy and temperature: one step on a batch [B, ...]."""
        tkey, akey = jax.random.split(key)
        optimisers, updates = state.optimisers, state.updates + 1
        pi, _ = distribution(state.policy, batch.next_obs, state.running.policy)
        next_action, log_prob = pi.sample_and_log_prob(tkey)
        critic_grad = jax.value_and_grad(self.critic_loss, has_aux=True)
        (loss, (metrics, moments)), gradient = critic_grad(state.critics, state, batch, next_action, log_prob)
        critics, copt, norms = descend(self.descent, gradient, optimisers.critics, state.critics)

        running = state.running._replace(critics=moments)
        parts = (
            state.policy, running.policy, state.log_temperature, optimisers.policy, optimisers.temperature,
        )  # fmt: skip
        improve = lambda: self.improved(state, critics, running, batch.obs, akey)  # noqa: E731
        (policy, moments, log_temperature, popt, topt), told = delayed(updates, self.delay, improve, parts)
        running, optimisers = running._replace(policy=moments), Optimisers(popt, copt, topt)
        metrics |= {"critic_loss": loss, "ent_coef": self.alpha(state), **norms, **told}
        return State(policy, critics, running, log_temperature, optimisers, state.clock, updates), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "HalfCheetah-v5": {  # the paper's, which has 2048 units in each layer of the critics; not measured here
                "steps": 1_000_000, "replay": Uniform(capacity=1_000_000, batch_size=256, warmup=5_000),
                "critic_torso": Torso(widths=(2048, 2048), activation="relu", init="uniform"),
            },
            "InvertedPendulum-v5": {
                "steps": 20_000, "torso": Torso(activation="relu", init="uniform"),
                "critic_torso": Torso(widths=(128, 128), activation="relu", init="uniform"),
                "replay": Uniform(capacity=20_000, batch_size=128, warmup=1_000),
            },
            "Pendulum-v1": {
                "steps": 20_000, "torso": Torso(activation="relu", init="uniform"),
                "critic_torso": Torso(widths=(128, 128), activation="relu", init="uniform"),
                "replay": Uniform(capacity=20_000, batch_size=128, warmup=500),
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        net = Torso(widths=(16, 16))
        few: dict[str, Any] = {"torso": net, "critic_torso": net, "num_envs": 4, "delay": 2, "renorm_after": 8}
        return {"": (cls(**few, replay=Uniform(capacity=200, batch_size=16, warmup=32)), "Pendulum-v1")}


def distribution(
    policy: Normalised, obs: PyTree, moments: PyTree, training: Training | None = None
) -> tuple[TanhNormal, PyTree]:
    """π(· | s), and the running statistics after this batch."""
    out, moments = policy(obs, None, moments, training)
    mean, log_std = jnp.split(out, 2, -1)
    return TanhNormal(mean, jnp.clip(log_std, -20.0, 2.0)), moments


def values(
    critics: Normalised, obs: PyTree, action: Array, moments: PyTree, training: Training | None = None
) -> tuple[Array, PyTree]:
    """Q_i(s, a), [N, B], of critics whose leaves are [N, ...], and their running statistics after this batch.

    Every critic gets a copy of its input: see `thorndike.nets.continuous.values`.
    """
    n = jax.tree.leaves(critics)[0].shape[0]
    obs, action = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), (obs, action))

    def one(critic: Normalised, obs: PyTree, action: Array, moments: PyTree) -> tuple[Array, PyTree]:
        return critic(obs, action, moments, training)

    q, moments = jax.vmap(one)(critics, obs, action, moments)
    return q[..., 0], moments
