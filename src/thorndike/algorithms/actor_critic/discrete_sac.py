"""Soft actor-critic for discrete actions."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive, Share, Static
from thorndike.memory.prioritised import Prioritised
from thorndike.memory.replay import Uniform
from thorndike.nets.continuous import least
from thorndike.nets.mlp import Dense
from thorndike.nets.observations import shown
from thorndike.nets.policy import PolicyHead
from thorndike.nets.torso import Network, Torso, example
from thorndike.ops.distributions import Categorical
from thorndike.ops.optimise import Adam, Optimiser, begin, descend, polyak
from thorndike.ops.returns import n_step, td_target
from thorndike.ops.statistics import normalise_tree, observed, running_tree
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Spec, Timestep, Transition


class Policy(eqx.Module):
    """π(a | s) over legal actions."""

    torso: Network
    head: PolicyHead

    def __call__(self, obs: PyTree, mask: Array | None = None) -> Categorical:
        return self.head(self.torso(obs), mask)


class Critic(eqx.Module):
    """Q(s, ·), [..., A]."""

    torso: Network
    head: Dense

    def __call__(self, obs: PyTree) -> Array:
        return self.head(self.torso(obs))


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
    statistics: PyTree  # of observations; () where they are not normalised


@algorithm(
    name="discrete-sac",
    summary="soft actor-critic for discrete actions, by expectations over them",
    actions="Discrete",
    aliases=("sac-discrete",),
)
class DiscreteSAC:
    """Soft actor-critic for discrete actions (Christodoulou 2019): expectations over actions in the place of samples.

    V(s') = Σ_a π(a | s') (min_i Q_i(s', a; θ⁻) - α log π(a | s')),   y = r + γ (1 - terminated) V(s')
    L(θ_i) = E[(Q_i(s, a) - y)²],   L(φ) = E[Σ_a π(a | s) (α log π(a | s) - min_i Q_i(s, a))],   L(α) = E[α (H[π] - H̄)]

    The paper's target entropy H̄ is 98% of the uniform policy's, which no policy that prefers an action of two by more
    than 58 to 42 has: α then grows for as long as the agent tries to.
    """

    learning_rate: NonNegative = 3e-4  # step size, of all three
    discount: Fraction = 0.99  # γ
    tau: Share = 0.005  # θ⁻ <- θ⁻ + τ (θ - θ⁻) after each update
    temperature: NonNegative | None = None  # α; None: learned, so that the entropy stays near target_entropy
    initial_temperature: Positive = 1.0  # where a learned α starts
    target_entropy: Fraction = 0.5  # H̄, as a share of the entropy of drawing any legal action; the paper's is 0.98
    critics: int = 2  # how many; the target takes their minimum
    replay_ratio: Static = 0.5  # updates for each environment step
    normalize_observation: bool = False  # by running mean and variance, which are saved with the actor
    replay: Uniform | Prioritised = Uniform(capacity=100_000, batch_size=128, warmup=1_000)  # the memory of transitions
    torso: Torso = Torso(activation="relu", init="uniform")  # the network below each head
    optimiser: Optimiser = Adam()
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 1  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.critics, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "critics, replay_ratio, num_envs and rollout_length must be positive")
        require(self.torso.dropout is None, "DiscreteSAC does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Discrete actions only: expectations are sums over them."""
        if isinstance(spec.action, Discrete):
            return None
        return f"DiscreteSAC sums over a list of actions, and {spec.action} is not one: it needs Discrete actions"

    def init(self, key: Array, spec: Spec) -> State:
        """Networks, targets equal to the critics, and three optimisers."""
        spec = shown(spec, self.normalize_observation)
        keys = jax.random.split(key, self.critics + 1)

        def critic(key: Array) -> Critic:
            tkey, hkey = jax.random.split(key)
            torso = self.torso.build(tkey, spec.observation)
            return Critic(torso, Dense(hkey, torso.features, int(spec.action.n), init="uniform"))  # type: ignore[attr-defined]

        tkey, hkey = jax.random.split(keys[0])
        torso = self.torso.build(tkey, spec.observation)
        policy, critics = Policy(torso, PolicyHead(hkey, torso.features, spec.action)), jax.vmap(critic)(keys[1:])
        log_temperature = jnp.log(jnp.float32(self.initial_temperature))
        return State(
            policy,
            critics,
            jax.tree.map(jnp.copy, critics),
            log_temperature,
            Optimisers(*(begin(self.descent, p) for p in (policy, critics, log_temperature))),
            Clock(jnp.int32(0), jnp.int32(spec.steps)),
            running_tree(example(spec.observation)) if self.normalize_observation else (),
        )

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

    def carry(self, actor: Actor, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """π(· | s), Σ_a π(a | s) min_i Q_i(s, a), and min_i Q_i(s, ·)."""
        obs = normalise_tree(actor.statistics, now.obs)
        pi, q = actor.policy(obs, now.info.get("mask")), least(values(actor.critics, obs))
        return Look(pi, (jnp.exp(pi.log_probs) * q).sum(-1), q), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Sample from the policy, or take its likeliest action."""
        pi = actor.policy(normalise_tree(actor.statistics, now.obs), now.info.get("mask"))
        return pi.sample(key) if explore else pi.mode(), carry, {}

    def alpha(self, state: State) -> Array:
        """The temperature α."""
        return jnp.exp(state.log_temperature) if self.temperature is None else jnp.float32(self.temperature)

    def target(self, state: State, batch: Transition) -> Array:
        """y, [B]."""
        pi = state.policy(batch.next_obs, batch.info.get("next_mask"))
        next_value = -objective(pi, least(values(state.targets, batch.next_obs)), self.alpha(state))
        reward, discount = n_step(batch, self.discount)
        return td_target(reward, next_value, batch.terminated, discount)

    def critic_loss(self, critics: Critic, batch: Transition, target: Array):
        """Σ_i ½ (Q_i(s, a) - y)², averaged over the batch, with the weights of a prioritised one."""
        q = values(critics, batch.obs)
        q = jnp.where(batch.action[:, None] == jnp.arange(q.shape[-1]), q, 0.0).sum(-1)
        loss = (batch.extras.get("weight", 1.0) * 0.5 * (q - target) ** 2).mean(1).sum()
        return loss, {"td_error": jnp.abs(q - target).mean(0), "q_value": q[0].mean()}

    def actor_loss(self, policy: Policy, critics: Critic, alpha: Array, batch: Transition):
        """Σ_a π(a | s) (α log π(a | s) - min_i Q_i(s, a)), averaged over the batch, and the entropy."""
        pi = policy(batch.obs, batch.info.get("mask"))
        return objective(pi, least(values(critics, batch.obs)), alpha).mean(), pi.entropy().mean()

    def goal(self, batch: Transition, actions: int) -> Array:
        """H̄: a share of the entropy of drawing any legal action, averaged over the batch."""
        mask = batch.info.get("mask")
        most = jnp.log(float(actions)) if mask is None else jnp.log(mask.sum(-1).astype(jnp.float32)).mean()
        return self.target_entropy * most

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """Critics, actor, temperature, targets: one step each on a batch [B, ...]. The key is not used."""
        optimisers, alpha = state.optimisers, self.alpha(state)
        statistics, batch = observed(state.statistics, batch)
        target = self.target(state, batch)
        critic_grad = jax.value_and_grad(self.critic_loss, has_aux=True)
        (critic_loss, metrics), gradient = critic_grad(state.critics, batch, target)
        critics, copt, norms = descend(self.descent, gradient, optimisers.critics, state.critics)

        actor_grad = jax.value_and_grad(self.actor_loss, has_aux=True)
        (actor_loss, entropy), gradient = actor_grad(state.policy, critics, alpha, batch)
        policy, popt, actor_norms = descend(self.descent, gradient, optimisers.policy, state.policy)

        log_temperature, topt = state.log_temperature, optimisers.temperature
        if self.temperature is None:
            surplus = entropy - self.goal(batch, policy.head.actions.sizes[0])  # more entropy than asked: lower α
            log_temperature, topt, _ = descend(self.descent, surplus * alpha, topt, log_temperature)
        told = {"actor_loss": actor_loss, **{f"actor_{name}": x for name, x in actor_norms.items()}}
        metrics |= {"critic_loss": critic_loss, "entropy": entropy, "ent_coef": alpha, **norms, **told}
        targets, optimisers = polyak(state.targets, critics, self.tau), Optimisers(popt, copt, topt)
        return State(policy, critics, targets, log_temperature, optimisers, state.clock, statistics), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {"CartPole-v1": {"steps": 100_000, "learning_rate": 1e-3}}  # four seeds: 500, 498, 500, 500

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4, "normalize_observation": True}
        replay = Uniform(capacity=200, batch_size=16, warmup=32)
        return {"": (cls(**few, replay=replay), "CartPole-v1")}


def values(critics: Critic, obs: PyTree) -> Array:
    """Q_i(s, ·), [N, B, A], of critics whose leaves are [N, ...]."""
    return jax.vmap(lambda critic: critic(obs))(critics)


def objective(pi: Categorical, q: Array, alpha: Array | float) -> Array:
    """Σ_a π(a) (α log π(a) - Q(a)), [B]: what the policy goes down; the negative is the soft value of the state."""
    return (jnp.exp(pi.log_probs) * (alpha * pi.log_probs - q)).sum(-1)
