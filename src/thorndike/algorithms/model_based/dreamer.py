"""DreamerV3."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive, Share, Static
from thorndike.memory.sequences import Sequences
from thorndike.nets.continuous import unsuited
from thorndike.nets.policy import Actions
from thorndike.nets.rssm import Latent, Stack
from thorndike.nets.world_model import Size, WorldModel
from thorndike.ops.distributions import Categorical, Normal, unimix
from thorndike.ops.optimise import LaProp, Optimiser, begin, clip_each, descend, polyak
from thorndike.ops.returns import lambda_returns
from thorndike.ops.twohot import Bins
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition

SIZES = {
    "nano": Size(memory=128, units=64, choices=8, classes=8, blocks=1, layers=1, depth=8),
    "1m": Size(memory=512, units=64, choices=32, classes=4, blocks=8, layers=3, depth=8),
    "12m": Size(memory=2048, units=256, choices=32, classes=16, blocks=8, layers=3, depth=16),
}
LOW, HIGH = 5.0, 95.0  # percentiles of returns whose distance is their spread
LEAST_STD = 0.1  # of continuous actions in [-1, 1]; the largest is 1


class Policy(eqx.Module):
    """π(a | h, z): a choice, or a Gaussian around a point in [-1, 1]^D."""

    net: Stack
    actions: Actions = eqx.field(static=True)

    def __init__(self, key: Array, features: int, size: Size, actions: Actions):
        self.actions, numbers = actions, actions.dimensions * (1 if actions.kind == "discrete" else 2)
        self.net = Stack(key, features, size.units, size.layers, numbers, gain=0.01)

    def __call__(self, state: Latent, share: Array | float) -> Categorical | Normal:
        out = self.net(state.features)
        if self.actions.kind == "discrete":
            return Categorical(unimix(out, share))
        mean, std = jnp.split(out, 2, -1)
        return Normal(jnp.tanh(mean), jnp.log(LEAST_STD + (1.0 - LEAST_STD) * jax.nn.sigmoid(std + 2.0)))


class Actor(NamedTuple):
    """All that is learned by gradients; acting needs the critic for `look` alone."""

    world: WorldModel
    policy: Policy
    critic: Stack  # v(h, z), logits over bins


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    actor: Actor
    slow: Stack  # a slow copy of the critic
    optimiser: Any
    spread: Array  # running mean of the distance between two percentiles of imagined returns
    updates: Array
    clock: Clock


class Imagined(NamedTuple):
    """What was imagined, [H, N, ...]."""

    before: Latent
    action: Array  # as the policy drew it
    after: Latent


@algorithm(
    name="dreamer",
    summary="DreamerV3: a recurrent world model, in whose imagination a policy is learned; vectors and images",
    actions="Discrete, or Box with finite bounds",
    aliases=("dreamerv3", "dreamer-v3"),
)
class Dreamer:
    """DreamerV3 (Hafner et al. 2023).

    A model of latent states x = (h, z) is learned from sequences. Policy and critic are learned from what it imagines:

    L(model) = |o' - ô'|² - log p(r | x') - log p(c | x') + max(1, KL[sg q, p]) + 0.1 max(1, KL[q, sg p])
    R_t = r_{t+1} + γ c_{t+1} ((1 - λ) v(x_{t+1}) + λ R_{t+1}),   w_t = Π_{i<=t} γ c_i
    L(π) = -Σ_t w_t (sg((R_t - v(x_t)) / max(1, S)) log π(a_t | x_t) + η H[π(x_t)])
    L(v) = -Σ_t w_t (log p_v(R_t | x_t) + log p_v(v⁻(x_t) | x_t)), and the same of λ-returns of stored steps

    with c = 1 where an episode goes on, S the distance from the 5th to the 95th percentile of R (a running mean), and
    sg no gradient. One optimiser descends the sum. Rewards and values are distributions over `bins`.
    """

    size: Literal["nano", "1m", "12m"] = "nano"  # of all networks; the larger two are the authors'
    learning_rate: NonNegative = 1e-3  # step size; the authors' for all of their sizes: 4e-5
    discount: Fraction = 0.99  # γ; the authors': 0.997
    trace: Fraction = 0.95  # λ
    horizon: int = 15  # H, steps that are imagined
    starts: int = 128  # stored steps, drawn from each batch, from which imagination starts
    entropy_coefficient: NonNegative = 3e-4  # η
    representation: NonNegative = 0.1  # weight of KL[q, sg p]
    free_nats: NonNegative = 1.0  # a KL below it has no gradient
    unimix: Share = 0.01  # of uniform probabilities in every choice that is drawn
    replay_value: NonNegative = 0.3  # weight of the critic's loss on stored steps
    tau: Share = 0.02  # v⁻ <- v⁻ + τ (v - v⁻) after each update
    spread_rate: Share = 0.01  # of S's running mean
    bins: Bins = Bins(low=-10.0, high=10.0, count=127)  # of rewards and values
    clip: Positive = 0.3  # the gradient of each array is at most this times the array's norm
    optimiser: Optimiser = LaProp()
    replay: Sequences = Sequences(capacity=100_000, batch_size=16, warmup=1_000)  # the memory of sequences
    replay_ratio: Static = 1 / 32  # updates for each environment step
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 32  # steps of each environment between two rounds of updates: the length of sequences

    def check(self) -> None:
        """Positive sizes, and plain sequences."""
        sizes = (self.horizon, self.starts, self.replay_ratio, self.num_envs)
        require(min(sizes) > 0, "horizon, starts, replay_ratio and num_envs must be positive")
        require(self.rollout_length > 1, "rollout_length must be above 1: it is the length of sequences")
        steps = self.replay.batch_size * self.rollout_length
        require(self.starts <= steps, f"starts is how many of a batch's {steps} steps are begun at, got {self.starts}")
        plain = type(self.replay) is Sequences and self.replay.burn_in == 0 and self.replay.n_step == 1
        require(plain, "Dreamer learns from whole sequences: give td.Sequences with burn_in 0 and n_step 1")
        one = np.ndim(self.bins.low) == np.ndim(self.bins.high) == 0
        require(one, "Dreamer's world model keeps its bins, so they cannot be swept: give numbers for low and high")

    def supports(self, spec: Spec) -> str | None:
        """Choices, or continuous actions with finite bounds."""
        if spec.masked:
            return "Dreamer imagines, and its model does not say which actions are legal there"
        if isinstance(spec.action, Discrete):
            return None
        if not isinstance(spec.action, Box):
            return f"Dreamer chooses one of several actions or acts by numbers, and {spec.action} is neither"
        return unsuited("Dreamer", "a Gaussian", spec)

    def init(self, key: Array, spec: Spec) -> State:
        """World model, policy and critic; of rewards and values nothing is known: they are 0."""
        wkey, pkey, ckey = jax.random.split(key, 3)
        size, actions = SIZES[self.size], Actions.of(spec.action)
        world = WorldModel(wkey, spec.observation, actions.dimensions, size, self.bins)
        features = size.memory + size.choices * size.classes
        critic = Stack(ckey, features, size.units, size.layers, self.bins.count, gain=0.0)
        actor = Actor(world, Policy(pkey, features, size, actions), critic)
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        slow = jax.tree.map(jnp.copy, critic)
        return State(actor, slow, begin(self.descent, actor), jnp.float32(0), jnp.int32(0), clock)

    @property
    def descent(self):
        """The optimiser of everything."""
        return self.optimiser.build(self.learning_rate)

    def adopted(self, state: State) -> State:
        """A state whose critic came from elsewhere: the slow one follows."""
        return state._replace(slow=jax.tree.map(jnp.copy, state.actor.critic))

    def actor(self, state: State) -> Actor:
        """World model, policy and critic."""
        return state.actor

    def carry(self, actor: Actor, n: int) -> tuple[Latent, Array]:
        """The state of the model and the last action, as numbers [n, A]: zeros."""
        return actor.world.rssm.start(n), jnp.zeros((n, actor.policy.actions.dimensions))

    def reached(self, actor: Actor, carry: PyTree, now: Timestep, key: Array | None) -> Latent:
        """The state that shows what is seen, [E, ...]: drawn, or without a key the likeliest."""
        state, action = carry
        memory = jnp.where(now.first[:, None], 0.0, actor.world.rssm.step(state, action))
        return actor.world.arrive(memory, actor.world.see(now.obs), key, self.unimix)[0]

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """π and v in the likeliest state, and the carry as if π's likeliest action were made."""
        state = self.reached(actor, carry, now, None)
        pi = actor.policy(state, self.unimix)
        value = self.bins.decode(actor.critic(state.features))
        return Look(pi, value), (state, encoded(actor.policy.actions, pi.mode()))

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Draw a state and an action, or take the likeliest of both."""
        skey, akey = jax.random.split(key)
        state = self.reached(actor, carry, now, skey if explore else None)
        pi, actions = actor.policy(state, self.unimix), actor.policy.actions
        action = pi.sample(akey) if explore else pi.mode()
        return actions.to_environment(action), (state, encoded(actions, action)), {"carry": state}

    def taken(self, actor: Actor, carry: PyTree, action: Array) -> PyTree:
        """The carry where another action was made than `act` chose."""
        actions = actor.policy.actions
        return carry[0], encoded(actions, actions.from_environment(action))

    def imagine(self, actor: Actor, start: Latent, key: Array) -> Imagined:
        """H steps of the policy in the model, from states [N, ...]; without gradients."""
        world, policy = actor.world, actor.policy

        def step(state: Latent, key: Array):
            akey, skey = jax.random.split(key)
            action = policy(state, self.unimix).sample(akey)
            memory = world.rssm.step(state, encoded(policy.actions, action))
            after = Latent(memory, world.rssm.prior(memory, self.unimix).sample(skey))
            return after, Imagined(state, action, after)

        return jax.lax.stop_gradient(jax.lax.scan(step, start, jax.random.split(key, self.horizon))[1])

    def returns(self, actor: Actor, seen: Imagined) -> tuple[Array, Array]:
        """R and w, [H, N], by reward, continuation and value at the arrivals."""
        reward, value = actor.world.reward(seen.after), self.bins.decode(actor.critic(seen.after.features))
        discount = self.discount * actor.world.going(seen.after)
        no = jnp.zeros(reward.shape, bool)
        returns = lambda_returns(reward, value, no, no, discount, self.trace)
        weight = jnp.cumprod(jnp.concatenate([jnp.ones_like(discount[:1]), discount[:-1]]), 0)
        return jax.lax.stop_gradient((returns, weight))

    def critic_loss(self, critic: Stack, slow: Stack, features: Array, returns: Array) -> tuple[Array, Array]:
        """-log p_v(R | x) - log p_v(v⁻(x) | x), and v(x), [...]."""
        logits, before = critic(features), jax.lax.stop_gradient(self.bins.decode(slow(features)))
        return self.bins.loss(logits, returns) + self.bins.loss(logits, before), self.bins.decode(logits)

    def replayed(self, actor: Actor, after: Latent, steps: Transition) -> Array:
        """λ-returns of stored steps [T, B]."""
        ended = jnp.concatenate([steps.terminated[:-1] | steps.first[1:], jnp.ones_like(steps.terminated[:1])])
        value = self.bins.decode(actor.critic(after.features))
        returns = lambda_returns(steps.reward, value, steps.terminated, ended, self.discount, self.trace)
        return jax.lax.stop_gradient(returns)

    def loss(self, actor: Actor, state: State, batch: Rollout, key: Array) -> tuple[Array, tuple[Metrics, Array]]:
        """The sum of all losses; and metrics, and the spread of returns with this batch's."""
        world, policy, critic = actor
        pkey, ikey, skey = jax.random.split(key, 3)
        steps, actions = batch.steps, policy.actions
        action = encoded(actions, actions.from_environment(steps.action))
        path = world.path(steps, action, batch.carry, pkey, self.unimix)
        losses = jax.tree.map(jnp.mean, world.losses(path, steps, self.free_nats))
        model = losses.decoder + losses.reward + losses.going + losses.dynamics
        model += self.representation * losses.representation
        stored, _ = self.critic_loss(critic, state.slow, path.before.features, self.replayed(actor, path.after, steps))

        flat = jax.tree.map(lambda x: jax.lax.stop_gradient(x).reshape(-1, x.shape[-1]), path.before)
        some = jax.random.permutation(skey, flat.memory.shape[0])[: self.starts]
        seen = self.imagine(actor, jax.tree.map(lambda x: x[some], flat), ikey)
        returns, weight = self.returns(actor, seen)
        imagined, value = self.critic_loss(critic, state.slow, seen.before.features, returns)

        now = jnp.percentile(returns, HIGH) - jnp.percentile(returns, LOW)
        spread = state.spread + self.spread_rate * (now - state.spread)
        scale = spread / (1.0 - (1.0 - self.spread_rate) ** (state.updates + 1))  # as Adam's means, begun at 0
        advantage = jax.lax.stop_gradient((returns - value) / jnp.maximum(1.0, scale))
        pi = policy(seen.before, self.unimix)
        entropy = pi.entropy()
        climbed = weight * (advantage * pi.log_prob(seen.action) + self.entropy_coefficient * entropy)
        total = model - climbed.mean() + (weight * imagined).mean() + self.replay_value * stored.mean()
        metrics = {
            **{f"{name}_loss": x for name, x in losses._asdict().items()},
            "model_loss": model,
            "critic_loss": imagined.mean(),
            "actor_loss": -climbed.mean(),
            "td_error": jnp.abs(returns - value).mean(),
            "value": value.mean(),
            "entropy": entropy.mean(),
            "return_spread": scale,
        }
        return total, (metrics, spread)

    def update(self, state: State, batch: Rollout, key: Array) -> tuple[State, Metrics]:
        """One step of world model, policy and critic on sequences [T, B, ...] and the states that they begin with."""
        grad = jax.value_and_grad(self.loss, has_aux=True)
        (loss, (metrics, spread)), gradient = grad(state.actor, state, batch, key)
        gradient = clip_each(gradient, state.actor, self.clip)
        actor, optimiser, norms = descend(self.descent, gradient, state.optimiser, state.actor)
        slow = polyak(state.slow, actor.critic, self.tau)
        return State(actor, slow, optimiser, spread, state.updates + 1, state.clock), {**metrics, "loss": loss, **norms}

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "CartPole-v1": {"steps": 40_000},
            "Pendulum-v1": {"steps": 20_000, "discount": 0.95, "replay_ratio": 1 / 8},
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {
            "num_envs": 4, "rollout_length": 4, "horizon": 3, "starts": 8, "replay_ratio": 1 / 16, "free_nats": 0.01,
            "bins": Bins(low=-5.0, high=5.0, count=11), "replay": Sequences(capacity=160, batch_size=4, warmup=32),
        }  # fmt: skip
        return {"": (cls(**few), "CartPole-v1"), "with numbers": (cls(**few), "Pendulum-v1")}


def encoded(actions: Actions, action: Array) -> Array:
    """An action as the model sees it [..., A]: one-hot, or numbers in network units."""
    return jax.nn.one_hot(action, actions.dimensions) if actions.kind == "discrete" else action
