"""Intrinsic rewards: bonuses for states that a network does not know yet, and what they are worth.

On rollouts (`learn`) a bonus has a critic and a discount of its own, and its return goes on over the ends of episodes
(Burda et al. 2019, section 2.3): dying costs nothing but the way back, and what is new stays new only once. On batches
from a memory (`reward`) it is added to their rewards, computed anew each time, so that what has become known is paid no
more (Laskin et al. 2021, the URL benchmark); its return is then part of Q, and ends where the task does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.configuration import config, require
from thorndike.domains import Fraction, NonNegative, Static
from thorndike.nets.mlp import Dense
from thorndike.nets.observations import Choice, Choices, Numbers, shown
from thorndike.nets.policy import Actions, PolicyHead
from thorndike.nets.torso import Network, Torso, example
from thorndike.ops.keys import permutation
from thorndike.ops.optimise import Adam, begin, descend
from thorndike.ops.returns import discounted_sums, gae
from thorndike.ops.statistics import Running, normalise_tree, running, running_tree, update_tree
from thorndike.types import Array, Metrics, PyTree, Rollout, Spec, Transition

CLIP = 5.0  # standard deviations that an observation is shown with at most


class Head(eqx.Module):
    """A torso and one dense layer."""

    torso: Network
    last: Dense

    def __init__(self, key: Array, torso: Torso, space: Space, outputs: int):
        tkey, lkey = jax.random.split(key)
        self.torso = torso.build(tkey, space)
        self.last = Dense(lkey, self.torso.features, outputs)

    def __call__(self, obs: PyTree) -> Array:
        return self.last(self.torso(obs))


class Steps(NamedTuple):
    """What novelty is computed of, [..., ...]: observations normalised and clipped, actions as vectors."""

    obs: PyTree
    action: Array
    next_obs: PyTree


class Curiosity(NamedTuple):
    """All that changes of an intrinsic reward."""

    learned: Any  # what says how new a state is
    fixed: Any  # a random network that is never learned; () without one
    critic: Head  # V of intrinsic returns
    optimiser: Any
    statistics: PyTree  # of observations
    returns: Running  # of discounted sums of bonuses
    sums: Array  # of each environment so far, [E]


class Apart(NamedTuple):
    """All that changes of an intrinsic reward that has no critic."""

    learned: Any  # what says how new a state is
    fixed: Any  # a random network that is never learned; () without one
    optimiser: Any
    statistics: PyTree  # of observations
    bonuses: Running  # of all bonuses so far


@config
class Bonus:
    """What every intrinsic reward has. A subclass says what is new: `networks(key, spec)` and `novelty(learned, fixed,
    steps) -> bonus, loss`, [...] each."""

    coefficient: NonNegative = 1.0  # weight of the intrinsic advantage, or of the bonus, beside that of rewards
    discount: Fraction = 0.99  # γ of intrinsic returns; of batches from a memory the algorithm's own γ is that
    learning_rate: NonNegative = 1e-3  # step size
    share: Static = 0.25  # of a rollout or a batch, which each update learns from
    updates: int = 8  # gradient steps for each rollout; for each batch it is one
    torso: Torso = Torso(activation="relu")  # the network below each head

    def check(self) -> None:
        """Positive sizes."""
        require(self.updates > 0, f"curiosity.updates must be positive, got {self.updates}")
        require(0 < self.share <= 1, f"curiosity.share must lie in (0, 1], got {self.share}")

    def networks(self, key: Array, spec: Spec) -> tuple[Any, Any]:
        """What is learned, and what is fixed."""
        raise NotImplementedError

    def novelty(self, learned: Any, fixed: Any, steps: Steps) -> tuple[Array, Array]:
        """The bonus of each step [...], and the loss by which it vanishes [...]."""
        raise NotImplementedError

    def init(self, key: Array, spec: Spec, num_envs: int) -> Curiosity:
        """Nothing is known yet."""
        nkey, ckey = jax.random.split(key)
        seen = shown(spec, True)
        learned, fixed = self.networks(nkey, seen)
        critic = Head(ckey, self.torso, seen.observation, 1)
        optimiser = begin(Adam().build(self.learning_rate), (learned, critic))
        statistics = running_tree(example(spec.observation))
        return Curiosity(learned, fixed, critic, optimiser, statistics, running(), jnp.zeros(num_envs))

    def learn(
        self, state: Curiosity, rollout: Rollout, action: Array, trace: Array | float, key: Array
    ) -> tuple[Curiosity, Array, Metrics]:
        """Intrinsic advantages [T, E], times the coefficient, and what is learned from the rollout.

        `action` are its actions as `PolicyHead` knows them.
        """
        steps = rollout.steps
        statistics = update_tree(state.statistics, steps.next_obs)
        obs, next_obs, last = (sight(statistics, x) for x in (steps.obs, steps.next_obs, rollout.last.obs))
        seen = Steps(obs, action, next_obs)
        raw = jax.lax.stop_gradient(self.novelty(state.learned, state.fixed, seen)[0])
        never = jnp.zeros_like(steps.terminated)
        sums, history = discounted_sums(state.sums, raw, never, self.discount)
        returns = state.returns.update(history)
        value = state.critic(obs)[..., 0]
        following = jnp.concatenate([value[1:], state.critic(last)[None, ..., 0]])
        bonus = raw / returns.std
        advantage = gae(bonus, value, following, never, never, self.discount, trace)
        data = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), (seen, advantage + value))
        n = steps.reward.size
        few = max(1, round(self.share * n))

        def update(carry, key):
            params, optimiser = carry
            rows = jax.tree.map(lambda x: x[jax.random.randint(key, (few,), 0, n)], data)
            (_, told), gradient = jax.value_and_grad(self.loss, has_aux=True)(params, state.fixed, *rows)
            params, optimiser, _ = descend(Adam().build(self.learning_rate), gradient, optimiser, params)
            return (params, optimiser), told

        start = ((state.learned, state.critic), state.optimiser)
        (params, optimiser), told = jax.lax.scan(update, start, jax.random.split(key, self.updates))
        metrics = {"bonus": raw.mean(), "intrinsic_value": value.mean(), **jax.tree.map(jnp.mean, told)}
        after = Curiosity(params[0], state.fixed, params[1], optimiser, statistics, returns, sums)
        return after, self.coefficient * advantage, metrics

    def apart(self, key: Array, spec: Spec) -> Apart:
        """Nothing is known yet: what `reward` begins with."""
        learned, fixed = self.networks(key, shown(spec, True))
        optimiser = begin(Adam().build(self.learning_rate), learned)
        return Apart(learned, fixed, optimiser, running_tree(example(spec.observation)), running())

    def reward(self, state: Apart, steps: Transition, key: Array) -> tuple[Apart, Array, Metrics]:
        """The bonus of each step of a batch [...], in standard deviations of all bonuses so far, times the
        coefficient; and one gradient step on a share of the batch, after it, which `key` draws."""
        statistics = update_tree(state.statistics, steps.next_obs)
        seen = Steps(sight(statistics, steps.obs), steps.action, sight(statistics, steps.next_obs))
        # Drawn by chance: the first rows are the oldest of a prioritised memory, and the first steps of sequences.
        rows = permutation(key, steps.reward.size)[: max(1, round(self.share * steps.reward.size))]

        def loss(learned: Any) -> tuple[Array, Array]:
            bonus, error = self.novelty(learned, state.fixed, seen)
            return error.reshape(-1)[rows].mean(), bonus

        (error, raw), gradient = jax.value_and_grad(loss, has_aux=True)(state.learned)
        learned, optimiser, _ = descend(Adam().build(self.learning_rate), gradient, state.optimiser, state.learned)
        bonuses = state.bonuses.update(raw)
        bonus = self.coefficient * jax.lax.stop_gradient(raw) / bonuses.std
        metrics = {"bonus": raw.mean(), "intrinsic_reward": bonus.mean(), "novelty_loss": error}
        return Apart(learned, state.fixed, optimiser, statistics, bonuses), bonus, metrics

    def loss(self, params: Any, fixed: Any, steps: Steps, target: Array) -> tuple[Array, Metrics]:
        """How badly the steps [B] are known, and their intrinsic returns."""
        learned, critic = params
        novelty = self.novelty(learned, fixed, steps)[1].mean()
        error = ((critic(steps.obs)[..., 0] - target) ** 2).mean()
        return novelty + error, {"novelty_loss": novelty, "intrinsic_value_loss": error}

    def supports(self, spec: Spec) -> str | None:
        """Any spaces."""
        return None


@config
class RND(Bonus):
    """Random network distillation (Burda et al. 2019): the error in predicting a random network.

    bonus = ½ || f̂(s') - f(s') ||²,   f fixed, f̂ learned to equal it
    """

    features: int = 64  # outputs of both networks

    def networks(self, key: Array, spec: Spec) -> tuple[Any, Any]:
        """Predictor and target; the predictor has a layer more."""
        pkey, tkey = jax.random.split(key)
        widths = self.torso.widths or (64, 64)
        deeper = Torso(widths=(*widths, widths[-1]), activation=self.torso.activation, init=self.torso.init)
        return tuple(Head(k, t, spec.observation, self.features) for k, t in ((pkey, deeper), (tkey, self.torso)))  # type: ignore[return-value]

    def novelty(self, learned: Any, fixed: Any, steps: Steps) -> tuple[Array, Array]:
        """½ the squared error at s'; it is what is learned, too."""
        error = 0.5 * ((learned(steps.next_obs) - jax.lax.stop_gradient(fixed(steps.next_obs))) ** 2).sum(-1)
        return error, error


class Models(eqx.Module):
    """φ(s), an inverse model (φ, φ') -> a, and a forward model (φ, a) -> φ'."""

    features: Head
    between: Dense
    inverse: PolicyHead
    ahead: Dense
    forward: Dense
    encode: Any

    def __init__(self, key: Array, torso: Torso, spec: Spec, features: int):
        keys = jax.random.split(key, 5)
        self.features = Head(keys[0], torso, spec.observation, features)
        self.between = Dense(keys[1], 2 * features, features)
        self.inverse = PolicyHead(keys[2], features, spec.action)
        self.encode = encoder(spec.action)
        self.ahead = Dense(keys[3], features + self.encode.features, features)
        self.forward = Dense(keys[4], features, features)


@config
class ICM(Bonus):
    """The intrinsic curiosity module (Pathak et al. 2017): the error of a forward model in features that only hold what
    actions have to do with.

    bonus = ½ || φ̂(φ(s), a) - φ(s') ||²,   L = (1 - β) L_inverse(a | φ(s), φ(s')) + β bonus
    """

    beta: Fraction = 0.2  # β
    features: int = 32  # of φ

    def networks(self, key: Array, spec: Spec) -> tuple[Any, Any]:
        """The models; nothing is fixed."""
        return Models(key, self.torso, spec, self.features), ()

    def novelty(self, learned: Any, fixed: Any, steps: Steps) -> tuple[Array, Array]:
        """The forward model's error, and both models' losses."""
        here, there = learned.features(steps.obs), learned.features(steps.next_obs)
        action = learned.encode(steps.action)
        hidden = jax.nn.relu(learned.ahead(jnp.concatenate([here, action], -1)))
        error = 0.5 * ((learned.forward(hidden) - there) ** 2).sum(-1)
        between = jax.nn.relu(learned.between(jnp.concatenate([here, there], -1)))
        surprise = -learned.inverse(between).log_prob(steps.action)
        return error, (1 - self.beta) * surprise + self.beta * error

    def supports(self, spec: Spec) -> str | None:
        """Actions that are numbers or choices."""
        if isinstance(spec.action, (Discrete, MultiDiscrete, MultiBinary, Box)):
            return None
        return f"ICM does not know how to read actions of {spec.action}"


def encoder(space: Space) -> Any:
    """What reads an algorithm's actions as vectors."""
    actions = Actions.of(space)
    if isinstance(space, Discrete):
        return Choice(Discrete(int(space.n)))
    if isinstance(space, MultiDiscrete):
        return Choices(MultiDiscrete(space.nvec.ravel()))
    return Numbers(MultiBinary(actions.dimensions))


def sight(statistics: PyTree, obs: PyTree) -> PyTree:
    """Observations normalised, and their floats clipped to five standard deviations."""
    clip = lambda x: jnp.clip(x, -CLIP, CLIP) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return jax.tree.map(clip, normalise_tree(statistics, obs))
