"""Option-critic: options, their policies and their terminations, learned end to end by the gradient of the return."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive
from thorndike.nets.mlp import orthogonal
from thorndike.nets.observations import shown
from thorndike.nets.torso import Network, Torso, example
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import Epsilon, Softmax, greedy, legal
from thorndike.ops.optimise import SGD, Adam, Optimiser, begin, descend
from thorndike.ops.returns import td_target
from thorndike.ops.rewards import Scaling, scaled, scaling
from thorndike.ops.statistics import counted, normalise_tree, running_tree, update_tree
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition


class Options(eqx.Module):
    """A torso and three linear heads: what there is to know of N options in states [..., *space.shape].

    The heads have no biases, so on one-hot features, those of a `Torso(widths=())` in numbered states, they are tables.
    """

    torso: Network
    values: Array  # of Q_Ω  [F, N]
    policies: Array  # of the options' logits [F, N, A]
    terminations: Array  # of β's logits [F, N]

    def __init__(self, key: Array, torso: Torso, spec: Spec, options: int):
        keys, actions = jax.random.split(key, 4), int(spec.action.n)  # type: ignore[attr-defined]
        self.torso = torso.build(keys[0], spec.observation)
        f = self.torso.features
        self.values = orthogonal(keys[1], (f, options), 0.01)
        self.policies = orthogonal(keys[2], (f, options * actions), 0.01).reshape(f, options, actions)
        self.terminations = orthogonal(keys[3], (f, options), 0.01)

    def __call__(self, obs: PyTree, mask: Array | None = None) -> Seen:
        features = self.torso(obs)
        logits = jnp.einsum("...f,fna->...na", features, self.policies)
        logits = legal(logits, None if mask is None else mask[..., None, :])
        return Seen(features @ self.values, logits, jax.nn.sigmoid(features @ self.terminations))


class Seen(NamedTuple):
    """What there is to know of N options in states [...]."""

    q: Array  # Q_Ω(s, ω), what ω is worth until it ends and then the best ones  [..., N]
    logits: Array  # of π_ω(a | s)                                               [..., N, A]
    beta: Array  # β_ω(s), the probability that ω ends on arrival in s           [..., N]


class Actor(NamedTuple):
    """What acting needs."""

    options: Options
    level: Array  # of the exploration over options
    statistics: PyTree
    scale: Array  # of values: what rewards were divided by


class State(NamedTuple):
    """All that changes."""

    options: Options
    optimiser: Any
    clock: Clock
    statistics: PyTree  # of observations; () where they are not normalised
    scaling: Scaling | tuple[()]  # of rewards; () where they are left as they are


@algorithm(
    name="option-critic",
    summary="option-critic: options with their own policies and terminations, learned by the gradient of the return",
    actions="Discrete",
)
class OptionCritic:
    """The option-critic architecture (Bacon, Harb & Precup 2017), with the deliberation cost of Harb et al. (2018).

    An option ω acts by π_ω until it ends, on arrival in s' with probability β_ω(s'); then another is chosen by Q_Ω.

    U(ω, s') = (1 - β_ω(s')) Q_Ω(s', ω) + β_ω(s') (V(s') - η),   V(s') = max_ω' Q_Ω(s', ω')
    y = r + γ (1 - terminated) U(ω, s')
    policies: ∇ log π_ω(a | s) (y - Q_Ω(s, ω));   terminations: -∇ β_ω(s') (Q_Ω(s', ω) - V(s') + η)
    critic: Q_Ω(s, ω) regresses y

    The gradient of a termination is that in the state of arrival, and where the episode terminates there is none.
    Without a cost η an option that is not the best one at every moment learns to end at once; each end that costs η
    makes options longer. Greedily, an option ends where β ≥ 1/2 and the best one follows.
    """

    options: int = 4  # N
    discount: Fraction = 0.99  # γ
    deliberation_cost: NonNegative = 0.0  # η, what the end of an option costs, in units of the rewards learned from
    exploration: Epsilon | Softmax = Epsilon(start=0.01, end=None)  # over options, when one has ended
    entropy_coefficient: NonNegative = 0.01  # weight of the entropy of the options' policies
    policy_coefficient: NonNegative = 1.0  # weight of the policies' objective beside the critic's loss
    termination_coefficient: NonNegative = 1.0  # weight of the terminations' objective
    learning_rate: NonNegative = 1e-3  # step size
    max_grad_norm: Positive | None = 0.5  # gradients are scaled down to this norm; None: they are not
    normalize_observation: bool = True  # floats, by running mean and variance, which are saved with the actor
    normalize_reward: bool = True  # divide by the running standard deviation of the discounted return
    torso: Torso = Torso()  # the network below the heads
    optimiser: Optimiser = Adam(eps=1e-5)
    num_envs: int = 16  # environments that are stepped side by side
    rollout_length: int = 8  # steps of each environment between two gradient steps

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.options, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "options, num_envs and rollout_length must be positive")
        require(self.torso.dropout is None, "OptionCritic does not use Torso.dropout: leave it out")

    def supports(self, spec: Spec) -> str | None:
        """Discrete actions."""
        if isinstance(spec.action, Discrete):
            return None
        return f"OptionCritic's options choose one of several actions, a Discrete, and {spec.action} is none"

    def init(self, key: Array, spec: Spec) -> State:
        """Networks and optimiser."""
        spec = shown(spec, self.normalize_observation)
        options = Options(key, self.torso, spec, self.options)
        statistics = running_tree(example(spec.observation)) if self.normalize_observation else ()
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        scales = scaling(self.num_envs) if self.normalize_reward else ()
        return State(options, begin(self.descent, options), clock, statistics, scales)

    @property
    def descent(self):
        """The optimiser."""
        return self.optimiser.build(self.learning_rate, self.max_grad_norm)

    def actor(self, state: State) -> Actor:
        """The networks with their observation statistics, and the level of exploration."""
        scale = state.scaling.scale if state.scaling else jnp.float32(1)
        return Actor(state.options, self.exploration.level(state.clock.progress), state.statistics, scale)

    def carry(self, actor: Actor, n: int) -> Array:
        """The option that is under way, [n]."""
        return jnp.zeros(n, jnp.int32)

    def seen(self, actor: Actor, now: Timestep) -> Seen:
        """The options in the present states."""
        return actor.options(normalise_tree(actor.statistics, now.obs), now.info.get("mask"))

    def followed(self, seen: Seen, level: Array, option: Array, first: Array, explore: bool) -> tuple[Array, Array]:
        """The probability that the option [E] goes on, [E], and those of all options if it does not [E, N]."""
        end = jnp.take_along_axis(seen.beta, option[:, None], -1)[:, 0]
        keep = jnp.where(first, 0.0, 1.0 - end if explore else (end < 0.5).astype(end.dtype))
        return keep, self.exploration.probabilities(seen.q, level) if explore else greedy(seen.q)

    def look(self, actor: Actor, carry: Array, now: Timestep, explore: bool) -> tuple[Look, Array]:
        """π(a | s) and the value, over all options by how likely each is to act."""
        seen = self.seen(actor, now)
        keep, chosen = self.followed(seen, actor.level, carry, now.first, explore)
        under_way = jax.nn.one_hot(carry, self.options)
        share = keep[:, None] * under_way + (1.0 - keep[:, None]) * chosen
        pi = (share[..., None] * jax.nn.softmax(seen.logits)).sum(1)
        return Look(Categorical(jnp.log(pi)), actor.scale * (share * seen.q).sum(-1)), carry

    def act(self, actor: Actor, carry: Array, now: Timestep, key: Array, explore: bool):
        """The option ends or goes on; an action of it, drawn or the likeliest."""
        seen = self.seen(actor, now)
        keep, chosen = self.followed(seen, actor.level, carry, now.first, explore)
        kkey, okey, akey = jax.random.split(key, 3)
        kept = keep > (jax.random.uniform(kkey, keep.shape) if explore else 0.5)
        following = jax.random.categorical(okey, jnp.log(chosen)) if explore else chosen.argmax(-1)
        option = jnp.where(kept, carry, following.astype(carry.dtype))
        pi = Categorical(of(seen.logits, option))
        return pi.sample(akey) if explore else pi.mode(), option, {"option": option, "kept": kept}

    def upon_arrival(self, q: Array, beta: Array, best: Array) -> Array:
        """U(ω, s') by Q_Ω(s', ω), β_ω(s') and V(s'), of any shape."""
        return (1.0 - beta) * q + beta * (best - self.deliberation_cost)

    def beta(self, options: Options, steps: Transition) -> Array:
        """β_ω(s') of the steps' options, [...]."""
        return of(options(steps.next_obs).beta, steps.extras["option"])

    def policy_objective(self, log_prob: Array, advantage: Array) -> Array:
        """log π_ω(a | s) (y - Q_Ω(s, ω)), of any shape."""
        return log_prob * advantage

    def termination_objective(self, beta: Array, advantage: Array) -> Array:
        """-β_ω(s') (Q_Ω(s', ω) - V(s') + η), of any shape."""
        return -beta * advantage

    def loss(self, options: Options, steps: Transition) -> tuple[Array, Metrics]:
        """All objectives, averaged over steps [...]; observations are normalised."""
        option = steps.extras["option"]
        here, beta = options(steps.obs, steps.info.get("mask")), self.beta(options, steps)
        pi, q = Categorical(of(here.logits, option)), of(here.q, option)
        there = jax.lax.stop_gradient(options(steps.next_obs).q)
        best, stay = there.max(-1), of(there, option)
        later = self.upon_arrival(stay, jax.lax.stop_gradient(beta), best)
        target = td_target(steps.reward, later, steps.terminated, self.discount)
        error = target - jax.lax.stop_gradient(q)
        ending = self.termination_objective(beta, stay - best + self.deliberation_cost)
        ending = jnp.where(steps.terminated, 0.0, ending).mean()
        policy, entropy = self.policy_objective(pi.log_prob(steps.action), error).mean(), pi.entropy().mean()
        critic = 0.5 * ((target - q) ** 2).mean()
        loss = critic - self.policy_coefficient * policy - self.termination_coefficient * ending
        return loss - self.entropy_coefficient * entropy, {
            "loss": loss,
            "td_error": jnp.abs(error).mean(),
            "q_value": q.mean(),
            "entropy": entropy,
            "termination": beta.mean(),
            "kept": steps.extras["kept"].mean(),
        }

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One gradient step on the rollout [T, E]. Options last 1 / (1 - `kept`) steps on average."""
        steps = rollout.steps
        statistics = update_tree(state.statistics, steps.obs)
        reward, scales = scaled(state.scaling, steps, self.discount)
        obs, after = (normalise_tree(state.statistics, x) for x in (steps.obs, steps.next_obs))
        seen = steps._replace(obs=obs, next_obs=after, reward=reward)
        gradient, metrics = jax.grad(self.loss, has_aux=True)(state.options, seen)
        options, optimiser, norms = descend(self.descent, gradient, state.optimiser, state.options)
        if jax.tree.leaves(statistics):
            metrics |= {"observations": counted(statistics)}
        return State(options, optimiser, state.clock, statistics, scales), metrics | norms

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        table: dict[str, Any] = {  # one table for all, as in the paper: policies move 50 times as fast as values
            "torso": Torso(widths=()), "optimiser": SGD(), "learning_rate": 0.5, "policy_coefficient": 50.0,
            "termination_coefficient": 0.5, "entropy_coefficient": 0.0, "exploration": Softmax(start=0.01, end=None),
            "num_envs": 1, "rollout_length": 1, "normalize_reward": False, "max_grad_norm": None,
        }  # fmt: skip
        return {"FourRooms": {"steps": 100_000, **table}, "CartPole-v1": {"steps": 200_000}}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"num_envs": 4, "rollout_length": 8, "options": 3, "deliberation_cost": 0.05}
        annealed = Epsilon(start=0.9, end=0.1, fraction=0.9)
        return {
            "": (
                cls(**few, torso=Torso(widths=(16,)),
                    exploration=annealed),
                "CartPole-v1",
            ),
            "in a table": (
                cls(**few, torso=Torso(widths=()), optimiser=SGD(), learning_rate=0.1,
                    exploration=Softmax(start=0.2, end=0.1)),
                "FourRooms",
            ),
        }  # fmt: skip


def of(numbers: Array, option: Array) -> Array:
    """Those of one option [...] out of all, [..., N] or [..., N, A]."""
    chosen = option[..., None] == jnp.arange(numbers.shape[option.ndim])
    chosen = chosen.reshape(chosen.shape + (1,) * (numbers.ndim - chosen.ndim))
    return jnp.where(chosen, numbers, 0.0).sum(option.ndim)
