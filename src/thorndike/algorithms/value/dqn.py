"""Deep Q-networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.algorithms.value import known
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive, Share, Static
from thorndike.memory.hindsight import Hindsight
from thorndike.memory.prioritised import Prioritised
from thorndike.memory.prioritised_sequences import PrioritisedSequences
from thorndike.memory.replay import Uniform
from thorndike.memory.sequences import Sequences, at_last
from thorndike.nets.auxiliary import SelfPrediction, Told
from thorndike.nets.cnn import is_image
from thorndike.nets.curiosity import ICM, RND
from thorndike.nets.observations import shown
from thorndike.nets.q_network import QNetwork
from thorndike.nets.recurrent import GRU, LSTM
from thorndike.nets.taught import Auxiliary, check_losses, layers, losses, misfit
from thorndike.nets.torso import Torso, example, leaves
from thorndike.nets.value import Categorical, Implicit, Mean, Quantiles, saturation, select
from thorndike.ops import distributions, health
from thorndike.ops.augment import ColourJitter, Crop, Shift
from thorndike.ops.distributional import CVaR
from thorndike.ops.exploration import Epsilon, Softmax, greedy, legal
from thorndike.ops.munchausen import Munchausen
from thorndike.ops.optimise import Adam, Optimiser, begin, descend, every, polyak
from thorndike.ops.returns import n_step, td_target
from thorndike.ops.statistics import normalise_tree, observed, running_tree
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition


class Actor(NamedTuple):
    """What acting needs: Q, the present ε or temperature, and the statistics that observations are normalised with."""

    q: QNetwork
    level: Array
    statistics: PyTree


class State(NamedTuple):
    """All that changes, but for the replay memory."""

    q: QNetwork  # θ
    target: QNetwork  # θ⁻
    optimiser: Any
    clock: Clock
    updates: Array
    statistics: PyTree  # of observations; () where they are not normalised
    auxiliary: Any = ()  # the layers of an auxiliary loss; () without one
    curiosity: Any = ()  # of intrinsic rewards; () without any


@algorithm(
    name="dqn",
    summary="deep Q-network; double, dueling, distributional, noisy ... are its fields, and a memory (DRQN)",
    actions="Discrete",
    aliases=("deep-q-network",),
)
class DQN:
    """Deep Q-network (Mnih et al. 2015), with double targets (van Hasselt et al. 2016) and what came after as fields.

    L(θ) = E[ huber( r + γ (1 - terminated) Q(s', a'; θ⁻) - Q(s, a; θ) ) ],   a' = argmax_a Q(s', a; θ or θ⁻)

    A `head` that learns the distribution of returns has a loss of its own in the place of Huber's. With a `core` and
    `Sequences` it is DRQN (Hausknecht & Stone 2015), and both networks start from the carry that acting had. Algorithms
    of other names, from `C51` to `R2D2`, are other defaults of this one: see `thorndike.algorithms.value.variants`.
    """

    learning_rate: NonNegative = Linear(2e-3)  # step size
    discount: Fraction = 0.99  # γ
    double: bool = True  # choose a' with θ, value it with θ⁻
    target_period: int = 100  # updates between copies θ⁻ <- θ⁻ + τ (θ - θ⁻)
    tau: Share = 1.0  # 1 is a hard copy; for a soft one 0.005 with target_period 1
    replay_ratio: Static = 0.5  # updates for each environment step
    huber: Positive = 100.0  # of `Mean`: |δ| beyond which the loss is linear; the paper's 1 is for rewards in [-1, 1]
    max_grad_norm: Positive = 1000.0  # the gradient is scaled down to this norm
    normalize_observation: bool = True  # by running mean and variance, which are saved with the actor
    exploration: Epsilon | Softmax = Epsilon()  # how actions are chosen in training
    head: Mean | Categorical | Quantiles | Implicit = Mean()  # what is said of each action: Q, or all of its return
    risk: CVaR | None = None  # actions by the mean of their worst returns, where the head knows these; None: of all
    dueling: bool = False  # V(s) and A(s, a) in layers of their own (Wang et al. 2016)
    noisy: Positive | None = None  # σ₀ of noise in the head's layers (Fortunato et al. 2018), to explore by; mostly 0.5
    munchausen: Munchausen | None = None  # log π as a reward, and softmax targets; in the place of `double`
    augment: Shift | Crop | ColourJitter | None = None  # pictures are changed at random in updates (DrQ, RAD)
    auxiliary: Auxiliary | None = None  # a loss, or several, that teaches the torso's features more
    curiosity: RND | ICM | None = None  # what is new is rewarded, in each batch as it is new by then
    # what it learns from
    replay: Uniform | Prioritised | Sequences | PrioritisedSequences | Hindsight = Uniform(
        capacity=50_000, batch_size=128
    )
    torso: Torso = Torso(activation="relu", init="uniform")  # the network below the head
    core: GRU | LSTM | None = None  # memory behind the torso; it needs Sequences as replay
    optimiser: Optimiser = Adam()
    diagnostics: bool = False  # more metrics of the values' health, for a few more products an update
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 1  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.target_period, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "target_period, replay_ratio, num_envs and rollout_length must be positive")
        require(self.torso.dropout is None, "DQN does not use Torso.dropout: leave it out")
        require(
            self.risk is None or not isinstance(self.head, Mean),
            "risk is of distributions of returns, and td.Mean() knows none: give td.Quantiles(), td.Categorical() or "
            "td.Implicit() as head, or leave risk out",
        )
        sequences = isinstance(self.replay, Sequences)
        require(
            sequences == (self.core is not None),
            "a core needs sequences to learn from, and nothing else does: give both, like "
            "DQN(core=td.GRU(), replay=td.Sequences(), rollout_length=16), on the command line "
            "--core gru --replay sequences --rollout-length 16, or neither",
        )
        require(
            self.core is None or self.rollout_length > 1,
            "with a core, rollout_length must be above 1: it is the length of the sequences that learning goes back "
            "through",
        )
        one_step = getattr(self.replay, "n_step", 1) == 1
        require(self.auxiliary is None or one_step, "auxiliary losses are of single steps: they need replay.n_step 1")
        check_losses(self.auxiliary, f"{type(self).__name__}.auxiliary")
        require(self.curiosity is None or one_step, "curiosity is of single steps: it needs replay.n_step 1")
        plain = isinstance(self.head, Mean) and not self.head.rescaled and one_step
        require(
            self.munchausen is None or plain,
            "munchausen adds to each reward and softens the mean's target: it needs head=td.Mean() and n_step 1",
        )

    def supports(self, spec: Spec) -> str | None:
        """Discrete actions only: the maximum over actions is taken by enumeration."""
        name = type(self).__name__
        if not isinstance(spec.action, Discrete):
            return (
                f"{name} takes the maximum over a list of actions, and {spec.action} is not one: it needs Discrete ones"
            )
        if self.augment is not None and not any(map(is_image, leaves(spec.observation))):
            return f"{name} changes pictures, and {spec.observation} has none: leave augment out"
        return misfit(self.auxiliary, spec)

    def init(self, key: Array, spec: Spec) -> State:
        """Two equal networks."""
        given, spec = spec, shown(spec, self.normalize_observation)
        q = QNetwork(key, self.torso, self.core, self.head, self.dueling, self.noisy, spec)
        copy = jax.tree.map(jnp.copy, q)
        more = layers(self.auxiliary, jax.random.fold_in(key, 2), q.torso, spec)
        curious = self.curiosity.apart(jax.random.fold_in(key, 3), given) if self.curiosity else ()
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        statistics = running_tree(example(spec.observation)) if self.normalize_observation else ()
        return State(q, copy, begin(self.descent, (q, more)), clock, jnp.int32(0), statistics, more, curious)  # type: ignore[arg-type]

    @property
    def descent(self):
        """The optimiser on the clipped gradient."""
        return self.optimiser.build(self.learning_rate, self.max_grad_norm)

    def adopted(self, state: State) -> State:
        """A state whose Q came from elsewhere: the target follows."""
        return state._replace(target=jax.tree.map(jnp.copy, state.q))

    def actor(self, state: State) -> Actor:
        """Q, the level of exploration at this point of the run, and the observations' statistics."""
        return Actor(state.q, self.exploration.level(state.clock.progress), state.statistics)

    def carry(self, actor: Actor, n: int) -> PyTree:
        """Zeros for a network that remembers, else nothing."""
        return self.core.carry(n) if self.core else ()

    def think(self, actor: Actor, carry: PyTree, now: Timestep, key: Array | None = None) -> tuple[Any, PyTree]:
        """What the head says of `now`, [E, ...], and the next carry. `key` draws a noise for each environment."""
        return actor.q.now(normalise_tree(actor.statistics, now.obs), now.first, carry, key)

    def judged(self, values: Any) -> Array:
        """What actions are chosen by, [..., A]: Q, or with `risk` the CVaR of each one's returns."""
        return self.head.mean(values) if self.risk is None else self.risk(*self.head.distribution(values))

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """Q(s, ·), that of the best action, the returns' distributions, and what it is acted on with: not known of
        noise."""
        values, carry = self.think(actor, carry, now)
        q, judged, mask = self.head.mean(values), self.judged(values), now.info.get("mask")
        seen = Look((), select(q, legal(judged, mask).argmax(-1)), q, self.head.distribution(values))
        if explore and self.noisy is not None:
            return seen, carry
        pi = self.exploration.probabilities(judged, actor.level, mask) if explore else greedy(judged, mask)
        return seen._replace(pi=distributions.Categorical(jnp.log(pi))), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Explore, or take the best legal action."""
        extras, mask, nkey = {"carry": carry} if self.core else {}, now.info.get("mask"), None
        if explore and self.noisy is not None:
            key, nkey = jax.random.split(key)
        values, carry = self.think(actor, carry, now, nkey)
        judged = self.judged(values)
        if explore:
            return self.exploration.choose(key, judged, actor.level, mask), carry, extras
        return legal(judged, mask).argmax(-1), carry, extras

    def target(self, frozen: Any, online: Any, steps: Transition, before: Any = ()) -> Array:
        """What the head is to say of the action at s, from what both networks say at s', and θ⁻ at s (`before`)."""
        mask = steps.info.get("next_mask")
        reward, discount = n_step(steps, self.discount)
        if self.munchausen is not None:
            reward = reward + self.munchausen.bonus(before, steps.action, steps.info.get("mask"))
            return td_target(reward, self.munchausen.value(frozen, mask), steps.terminated, discount)
        best = legal(self.judged(online if self.double else frozen), mask).argmax(-1)  # a'
        return self.head.target(self.head.pick(frozen, best), reward, steps.terminated, discount)

    def values(self, q: QNetwork, steps: Transition, carry: PyTree, key: Array | None = None) -> tuple[Any, Any]:
        """What the head says at s and at s', [T, B, ...], behind the burn-in of sequences [burn_in + T, B, ...].

        s' is one step on from the carry after s, in the same episode.
        """
        burn_in = self.replay.burn_in if isinstance(self.replay, Sequences) else 0
        if burn_in:
            early, steps = jax.tree.map(lambda x: x[:burn_in], steps), jax.tree.map(lambda x: x[burn_in:], steps)
            carry = jax.lax.stop_gradient(jax.tree.map(lambda c: c[-1], q(early.obs, early.first, carry)[1]))
        here, there = q.here_and_there(steps, carry, key)
        if isinstance(self.replay, Sequences) and self.replay.n_step > 1:
            there = at_last(there, steps.extras["steps"])
        return here, there

    def diagnosed(self, q: QNetwork, here: Any, there: Any, frozen: Any, steps: Transition) -> Metrics:
        """What `diagnostics` adds: see `thorndike.ops.health`. Masked actions count as the others."""
        now, online, judged = (self.head.mean(values) for values in (here, there, frozen))
        features = q.seen(steps.obs)
        return {
            "q_max": now.max(-1).mean(),
            "action_gap": health.action_gap(now),
            "overestimation": health.overestimation(judged, online),
            "target_gap": jnp.abs(judged - online).mean(),  # between both networks at s'
            "effective_rank": health.effective_rank(features),
            "dead_units": health.dead_units(features),
            "weight_share": health.effective_share(steps.extras.get("weight", jnp.ones(1))),
        }

    def update(self, state: State, batch: Transition | Rollout, key: Array) -> tuple[State, Metrics]:
        """One gradient step on a batch, and the target's copy when it is due.

        Args:
            state: from `init`.
            batch: transitions [B, ...]; with a core, sequences [burn_in + T, B, ...] and the carries that they
                begin with.
            key: draws what is random in the head, how pictures are shifted, and what curiosity learns from.
        """
        steps, carry = (batch.steps, batch.carry) if isinstance(batch, Rollout) else (_as_sequence(batch), ())
        curious, told = state.curiosity, Metrics()
        if self.curiosity is not None:
            curious, bonus, told = self.curiosity.reward(curious, steps, jax.random.fold_in(key, 3))
            steps = steps._replace(reward=steps.reward + bonus)
        if self.augment is not None:
            pictures = zip(jax.random.split(jax.random.fold_in(key, 2)), (steps.obs, steps.next_obs))
            obs, next_obs = (self.augment(k, x, axes=2) for k, x in pictures)
            steps = steps._replace(obs=obs, next_obs=next_obs)
        statistics, steps = observed(state.statistics, steps)
        drawn = self.noisy is not None or isinstance(self.head, Implicit)
        online_key, frozen_key = jax.random.split(key) if drawn else (None, None)
        before, frozen = self.values(state.target, steps, carry, frozen_key)

        def loss(learned: tuple[QNetwork, Any]):
            q, more = learned
            here, there = self.values(q, steps, carry, online_key)
            late = jax.tree.map(lambda x: x[x.shape[0] - jax.tree.leaves(frozen)[0].shape[0] :], steps)
            chosen = self.head.pick(here, late.action)  # of a at s, by θ
            target = self.target(frozen, jax.lax.stop_gradient(there), late, before)
            each, error = self.head.loss(chosen, target, self.huber)
            metrics = {"td_error": jnp.abs(error), "loss": each, "q_value": self.head.mean(chosen).mean()}
            metrics |= saturation(self.head, target)
            if self.diagnostics:
                metrics |= self.diagnosed(q, here, there, frozen, late)
            whole = (late.extras.get("weight", 1.0) * each).mean()
            if self.auxiliary is not None:
                told = Told(late.obs, late.action, late.reward, late.next_obs)
                error, said = losses(self.auxiliary, more, q.seen, told)
                whole, metrics = whole + error, said | metrics  # priorities are made of metrics
            return whole, metrics

        learned = (state.q, state.auxiliary)
        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(learned)
        (q, more), optimiser, norms = descend(self.descent, gradient, state.optimiser, learned)
        updates = state.updates + 1
        target_q = every(updates, self.target_period, polyak(state.target, q, self.tau), state.target)
        return State(q, target_q, optimiser, state.clock, updates, statistics, more, curious), {
            **metrics,
            **norms,
            **told,
        }

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return known.dqn()

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4, "target_period": 3}
        sequences = Sequences(capacity=240, batch_size=8, burn_in=2, warmup=48)
        remembers: dict[str, Any] = {
            "core": GRU(width=8), "rollout_length": 6, "replay": sequences, "auxiliary": SelfPrediction(),
            "curiosity": ICM(features=8, torso=Torso(widths=(16,))),
        }  # fmt: skip
        replay = replace(cls().replay, capacity=200, batch_size=16, warmup=32)
        cases = {"": (cls(**few, replay=replay), "CartPole-v1")}
        return cases | ({"with memory": (cls(**few, **remembers), "CartPoleNoVel-v1")} if cls is DQN else {})


def _as_sequence(batch: Transition) -> Transition:
    """A batch [B, ...] as sequences of one step [1, B, ...]."""
    return jax.tree.map(lambda x: x[None], batch)
