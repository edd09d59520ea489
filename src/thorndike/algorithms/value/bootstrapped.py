"""Bootstrapped DQN: an ensemble of Q-networks that disagree where little is known, and exploration by that."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import algorithm, config, require
from thorndike.domains import Fraction, NonNegative, Positive, Share, Static
from thorndike.memory.replay import Uniform
from thorndike.nets.observations import shown
from thorndike.nets.q_network import QNetwork
from thorndike.nets.torso import Torso, example
from thorndike.nets.value import Mean
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import greedy, legal
from thorndike.ops.optimise import Adam, Optimiser, begin, descend, every
from thorndike.ops.returns import n_step, td_target
from thorndike.ops.statistics import normalise_tree, observed, running_tree
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Spec, Timestep, Transition


@config
class Thompson:
    """Each episode follows one member, drawn when it begins: exploration that is consistent over time."""


@config
class Optimism:
    """The best upper confidence bound: mean over members plus `bonus` standard deviations."""

    bonus: NonNegative = 1.0


class Actor(NamedTuple):
    """What acting needs: the members, their priors, and the statistics that observations are normalised with."""

    q: QNetwork
    prior: QNetwork
    statistics: PyTree


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    q: QNetwork  # θ_k, leaves [K, ...]
    target: QNetwork  # θ⁻_k, leaves [K, ...]
    prior: QNetwork  # never learned, leaves [K, ...]
    optimiser: Any
    clock: Clock
    updates: Array
    statistics: PyTree  # of observations; () where they are not normalised


@algorithm(
    name="bootstrapped-dqn",
    summary="an ensemble with randomised priors, explored by Thompson sampling or optimism",
    actions="Discrete",
    aliases=("boot-dqn", "randomised-prior-functions"),
)
class BootstrappedDQN:
    """Bootstrapped DQN (Osband et al. 2016) with randomised prior functions (Osband et al. 2018).

    Q_k(s, a) = f(s, a; θ_k) + β p_k(s, a)
    L(θ) = Σ_k E[ m_k ½ (r + γ (1 - terminated) max_a' Q_k(s', a'; θ⁻_k) - Q_k(s, a; θ_k))² ]

    p_k are random networks that are never learned; m_k ~ Bernoulli(share) is drawn when a step is taken, and stays with
    it. Members are networks of their own. Evaluation takes the best mean over members.
    """

    learning_rate: NonNegative = 1e-3  # step size
    discount: Fraction = 0.99  # γ
    members: int = 10  # K
    prior: NonNegative = 3.0  # β; 0: plain bootstrap
    share: Share = 0.5  # of the steps that each member learns from
    target_period: int = 4  # updates between copies of θ to θ⁻
    replay_ratio: Static = 0.25  # updates for each environment step
    max_grad_norm: Positive = 1000.0  # the gradient is scaled down to this norm
    normalize_observation: bool = False  # by running mean and variance, which are saved with the actor
    exploration: Thompson | Optimism = Thompson()  # how actions are chosen in training
    replay: Uniform = Uniform(capacity=50_000, batch_size=128)  # the memory of transitions
    torso: Torso = Torso(widths=(50, 50), activation="relu", init="uniform")  # the network below each head
    optimiser: Optimiser = Adam()
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 1  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes, and members that can disagree."""
        sizes = (self.target_period, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "target_period, replay_ratio, num_envs and rollout_length must be positive")
        require(self.members > 1, f"an ensemble has two members or more, not {self.members}")
        require(type(self.replay) is Uniform, "BootstrappedDQN draws uniformly: give td.Uniform as replay")
        require(self.torso.dropout is None, "BootstrappedDQN does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Discrete actions only: the maximum over actions is taken by enumeration."""
        if isinstance(spec.action, Discrete):
            return None
        return f"BootstrappedDQN takes the maximum over a list of actions, and {spec.action} is not one"

    def init(self, key: Array, spec: Spec) -> State:
        """Members, equal targets, and priors."""
        spec = shown(spec, self.normalize_observation)
        build = jax.vmap(lambda key: QNetwork(key, self.torso, None, Mean(), False, None, spec))
        q, prior = (build(jax.random.split(k, self.members)) for k in jax.random.split(key))
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        statistics = running_tree(example(spec.observation)) if self.normalize_observation else ()
        copy = jax.tree.map(jnp.copy, q)
        return State(q, copy, prior, begin(self.descent, q), clock, jnp.int32(0), statistics)

    @property
    def descent(self):
        """The optimiser on the clipped gradient."""
        return self.optimiser.build(self.learning_rate, self.max_grad_norm)

    def adopted(self, state: State) -> State:
        """A state whose members came from elsewhere: the targets follow."""
        return state._replace(target=jax.tree.map(jnp.copy, state.q))

    def actor(self, state: State) -> Actor:
        """Members, priors, and the observations' statistics."""
        return Actor(state.q, state.prior, state.statistics)

    def carry(self, actor: Actor, n: int) -> Array:
        """The member that each environment follows, [E]."""
        return jnp.zeros(n, jnp.int32)

    def values(self, q: QNetwork, prior: QNetwork, obs: PyTree) -> Array:
        """Q_k(s, ·), [K, B, A], of observations [B, ...]."""
        each = jax.vmap(lambda q: q.head(q.torso(obs)))
        return each(q) + self.prior * jax.lax.stop_gradient(each(prior))

    def look(self, actor: Actor, carry: Array, now: Timestep, explore: bool) -> tuple[Look, Array]:
        """The members' mean of Q(s, ·), its maximum, and what actions are drawn from."""
        values = self.values(actor.q, actor.prior, normalise_tree(actor.statistics, now.obs))
        mask, mean = now.info.get("mask"), values.mean(0)
        if explore and isinstance(self.exploration, Thompson):
            each = jax.vmap(lambda v: greedy(v, mask))(values)  # [K, E, A]
            pi = jnp.where(now.first[:, None], each.mean(0), each[carry, jnp.arange(len(carry))])
        else:
            pi = greedy(self.bound(values) if explore else mean, mask)
        return Look(Categorical(jnp.log(pi)), legal(mean, mask).max(-1), mean), carry

    def bound(self, values: Array) -> Array:
        """Mean plus `bonus` standard deviations over members, [E, A], of values [K, E, A]."""
        assert isinstance(self.exploration, Optimism)
        return values.mean(0) + self.exploration.bonus * values.std(0)

    def act(self, actor: Actor, carry: Array, now: Timestep, key: Array, explore: bool):
        """The best legal action of the member that is followed, of the upper bound, or of the mean."""
        hkey, mkey = jax.random.split(key)
        values = self.values(actor.q, actor.prior, normalise_tree(actor.statistics, now.obs))
        n = len(carry)
        if not explore:
            chosen = values.mean(0)
        elif isinstance(self.exploration, Optimism):
            chosen = self.bound(values)
        else:
            carry = jnp.where(now.first, jax.random.randint(hkey, (n,), 0, self.members), carry)
            chosen = values[carry, jnp.arange(n)]
        learns = jax.random.bernoulli(mkey, self.share, (n, self.members))
        return legal(chosen, now.info.get("mask")).argmax(-1), carry, {"learns": learns}

    def loss(self, q: QNetwork, prior: QNetwork, batch: Transition, target: Array) -> tuple[Array, Metrics]:
        """Σ_k m_k ½ (y_k - Q_k(s, a))², averaged over the batch; targets [K, B]."""
        values = self.values(q, prior, batch.obs)
        chosen = jnp.where(batch.action[:, None] == jnp.arange(values.shape[-1]), values, 0.0).sum(-1)
        error = target - chosen
        learns = batch.extras["learns"].T if "learns" in batch.extras else jnp.ones_like(error)
        loss = (learns * 0.5 * error**2).mean(1).sum()
        spread = chosen.std(0).mean()
        return loss, {"loss": loss, "td_error": jnp.abs(error).mean(0), "q_value": chosen.mean(), "spread": spread}

    def update(self, state: State, batch: Transition, key: Array) -> tuple[State, Metrics]:
        """One gradient step on a batch [B, ...], and the targets' copies when they are due."""
        statistics, batch = observed(state.statistics, batch)
        reward, discount = n_step(batch, self.discount)
        there = self.values(state.target, state.prior, batch.next_obs)
        next_value = legal(there, batch.info.get("next_mask")).max(-1)
        target = td_target(reward, next_value, batch.terminated, discount)
        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.q, state.prior, batch, target)
        q, optimiser, norms = descend(self.descent, gradient, state.optimiser, state.q)
        updates = state.updates + 1
        copies = every(updates, self.target_period, q, state.target)
        return State(q, copies, state.prior, optimiser, state.clock, updates, statistics), {**metrics, **norms}

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {
            "DeepSea": {"steps": 20_000, "replay": Uniform(capacity=10_000, batch_size=128, warmup=128)},
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4, "members": 3, "target_period": 3}
        replay = Uniform(capacity=200, batch_size=16, warmup=32)
        return {
            "": (cls(**few, replay=replay), "CartPole-v1"),
            "with optimism": (cls(**few, replay=replay, exploration=Optimism()), "CartPole-v1"),
        }
