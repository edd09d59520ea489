"""Deep Q-networks."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative, Positive, Share, Static
from thorndike.memory.hindsight import Hindsight
from thorndike.memory.prioritised import Prioritised
from thorndike.memory.replay import Uniform
from thorndike.memory.sequences import Sequences
from thorndike.nets.mlp import Dense
from thorndike.nets.observations import shown
from thorndike.nets.recurrent import GRU, LSTM, Recurrent, unroll
from thorndike.nets.torso import Network, Torso, example
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import Epsilon, Softmax, greedy, legal
from thorndike.ops.losses import huber
from thorndike.ops.optimise import Adam, Optimiser, begin, descend, every, polyak
from thorndike.ops.returns import n_step, td_target
from thorndike.ops.statistics import normalise_tree, observed, running_tree
from thorndike.schedules import Linear
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition


class QNetwork(eqx.Module):
    """Q(s, ·), [T, E, A]."""

    torso: Network | Recurrent
    head: Dense

    def __init__(self, key: Array, torso: Torso, core: GRU | LSTM | None, spec: Spec):
        tkey, hkey = jax.random.split(key)
        network = torso.build(tkey, spec.observation)
        self.torso = core.build(jax.random.fold_in(tkey, 1), network) if core else network
        self.head = Dense(hkey, self.torso.features, int(spec.action.n), init=torso.init)  # type: ignore[attr-defined]

    def __call__(self, obs: PyTree, first: Array, carry: PyTree) -> tuple[Array, PyTree]:
        """Q [T, E, A] and the carry after each step; obs and first [T, E, ...], carry [E, ...]."""
        features, carries = unroll(self.torso, obs, first, carry)
        return self.head(features), carries


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


@algorithm(
    name="dqn",
    summary="deep Q-network, with double targets as a field; with a core it remembers (DRQN)",
    actions="Discrete",
    aliases=("deep-q-network",),
)
class DQN:
    """Deep Q-network (Mnih et al. 2015), with double targets (van Hasselt et al. 2016) as a field.

    L(θ) = E[ huber( r + γ (1 - terminated) max_a' Q(s', a'; θ⁻) - Q(s, a; θ) ) ]

    With a `core` and `Sequences` as its replay it is DRQN (Hausknecht & Stone 2015); `burn_in` is R2D2's (Kapturowski
    et al. 2019), whose priorities, longer returns and rescaled values are not here. Both networks then start from the
    carry that acting had.
    """

    learning_rate: NonNegative = Linear(2e-3)  # step size
    discount: Fraction = 0.99  # γ
    double: bool = True  # choose a' with θ, value it with θ⁻
    target_period: int = 100  # updates between copies θ⁻ <- θ⁻ + τ (θ - θ⁻)
    tau: Share = 1.0  # 1 is a hard copy; for a soft one 0.005 with target_period 1
    replay_ratio: Static = 0.5  # updates for each environment step
    huber: Positive = 100.0  # |δ| beyond which the loss is linear; the paper's 1 is for rewards clipped to [-1, 1]
    max_grad_norm: Positive = 1000.0  # the gradient is scaled down to this norm
    normalize_observation: bool = True  # by running mean and variance, which are saved with the actor
    exploration: Epsilon | Softmax = Epsilon()  # how actions are chosen in training
    replay: Uniform | Prioritised | Sequences | Hindsight = Uniform(
        capacity=50_000, batch_size=128
    )  # what it learns from
    torso: Torso = Torso(activation="relu", init="uniform")  # the network below the head
    core: GRU | LSTM | None = None  # memory behind the torso; it needs Sequences as replay
    optimiser: Optimiser = Adam()
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 1  # steps of each environment between two rounds of updates

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.target_period, self.replay_ratio, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "target_period, replay_ratio, num_envs and rollout_length must be positive")
        require(self.torso.dropout is None, "DQN does not use Torso.dropout: leave it out")
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

    def supports(self, spec: Spec) -> str | None:
        """Discrete actions only: the maximum over actions is taken by enumeration."""
        if isinstance(spec.action, Discrete):
            return None
        return f"DQN takes the maximum over a list of actions, and {spec.action} is not one: it needs Discrete actions"

    def init(self, key: Array, spec: Spec) -> State:
        """Two equal networks."""
        spec = shown(spec, self.normalize_observation)
        q = QNetwork(key, self.torso, self.core, spec)
        copy = jax.tree.map(jnp.copy, q)
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        statistics = running_tree(example(spec.observation)) if self.normalize_observation else ()
        return State(q, copy, begin(self.descent, q), clock, jnp.int32(0), statistics)  # type: ignore[arg-type]

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

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """Q(s, ·), its maximum, and what it is acted on with."""
        obs, mask = normalise_tree(actor.statistics, now.obs), now.info.get("mask")
        values, carries = actor.q(jax.tree.map(lambda x: x[None], obs), now.first[None], carry)
        values, carry = values[0], jax.tree.map(lambda c: c[0], carries)
        pi = self.exploration.probabilities(values, actor.level, mask) if explore else greedy(values, mask)
        return Look(Categorical(jnp.log(pi)), legal(values, mask).max(-1), values), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Explore, or take the best legal action."""
        extras = {"carry": carry} if self.core else {}
        look, carry = self.look(actor, carry, now, explore)
        values, mask = look.q, now.info.get("mask")
        if explore:
            return self.exploration.choose(key, values, actor.level, mask), carry, extras
        return legal(values, mask).argmax(-1), carry, extras

    def target(self, frozen: Array, online: Array, steps: Transition) -> Array:
        """r + γ (1 - terminated) max_a' Q(s', a'; θ⁻), from the values of both networks at s' [..., A]."""
        frozen, online = (legal(values, steps.info.get("next_mask")) for values in (frozen, online))
        next_value = select(frozen, online.argmax(-1)) if self.double else frozen.max(-1)
        reward, discount = n_step(steps, self.discount)
        return td_target(reward, next_value, steps.terminated, discount)

    def values(self, q: QNetwork, steps: Transition, carry: PyTree) -> tuple[Array, Array]:
        """Q(s, ·) and Q(s', ·), [T, B, A], behind the burn-in of sequences [burn_in + T, B, ...].

        s' is one step on from the carry after s, in the same episode.
        """
        burn_in = self.replay.burn_in if isinstance(self.replay, Sequences) else 0
        if burn_in:
            early, steps = jax.tree.map(lambda x: x[:burn_in], steps), jax.tree.map(lambda x: x[burn_in:], steps)
            carry = jax.lax.stop_gradient(jax.tree.map(lambda c: c[-1], q(early.obs, early.first, carry)[1]))
        here, carries = q(steps.obs, steps.first, carry)
        flat = lambda x: x.reshape((-1, *x.shape[2:]))  # noqa: E731
        obs, carry = jax.tree.map(lambda x: flat(x)[None], steps.next_obs), jax.tree.map(flat, carries)
        there, _ = q(obs, jnp.zeros((1, here.shape[0] * here.shape[1]), bool), carry)
        return here, there.reshape(here.shape)

    def update(self, state: State, batch: Transition | Rollout, key: Array) -> tuple[State, Metrics]:
        """One gradient step on a batch, and the target's copy when it is due.

        Args:
            state: from `init`.
            batch: transitions [B, ...]; with a core, sequences [burn_in + T, B, ...] and the carries that they
                begin with.
            key: not used.
        """
        steps, carry = (batch.steps, batch.carry) if isinstance(batch, Rollout) else (_as_sequence(batch), ())
        statistics, steps = observed(state.statistics, steps)
        _, frozen = self.values(state.target, steps, carry)

        def loss(q: QNetwork):
            here, there = self.values(q, steps, carry)
            late = jax.tree.map(lambda x: x[x.shape[0] - here.shape[0] :], steps)
            chosen = select(here, late.action)  # Q(s, a; θ)
            error = self.target(frozen, jax.lax.stop_gradient(there), late) - chosen  # δ
            each = huber(error, self.huber)
            metrics = {"td_error": jnp.abs(error), "loss": each, "q_value": chosen.mean()}
            return (late.extras.get("weight", 1.0) * each).mean(), metrics

        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.q)
        q, optimiser, norms = descend(self.descent, gradient, state.optimiser, state.q)
        updates = state.updates + 1
        target_q = every(updates, self.target_period, polyak(state.target, q, self.tau), state.target)
        return State(q, target_q, optimiser, state.clock, updates, statistics), {**metrics, **norms}

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        replaying = {
            "num_envs": 16,
            "learning_rate": 1e-3,
            "normalize_observation": False,
            "core": GRU(),
            "torso": Torso(widths=(64,), activation="relu", init="uniform"),
            "replay": Sequences(capacity=100_000, batch_size=32, warmup=2_000),
        }
        return {
            "CartPole-v1": {
                "steps": 100_000, "discount": 0.98, "learning_rate": Linear(4e-3), "target_period": 50,
            },
            "Acrobot-v1": {
                "steps": 100_000, "normalize_observation": False, "exploration": Epsilon(end=0.02, fraction=0.2),
            },
            "BitFlip": {  # success 1 with hindsight, 0 without
                "steps": 50_000, "num_envs": 16, "discount": 0.98, "learning_rate": 1e-3, "target_period": 50,
                "replay_ratio": 0.25, "normalize_observation": False, "exploration": Epsilon(start=0.3, end=0.02),
                "torso": Torso(widths=(128, 128), activation="relu", init="uniform"), "replay": Hindsight(),
            },
            "TMaze": {"steps": 200_000, **replaying, "rollout_length": 32, "replay_ratio": 1 / 32},
            "RepeatPrevious": {"steps": 200_000, **replaying, "rollout_length": 16, "replay_ratio": 1 / 32},
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        few: dict[str, Any] = {"torso": Torso(widths=(16, 16)), "num_envs": 4, "target_period": 3}
        sequences = Sequences(capacity=240, batch_size=8, burn_in=2, warmup=48)
        remembers: dict[str, Any] = {
            "core": GRU(width=8),
            "rollout_length": 6,
            "normalize_observation": True,
            "replay": sequences,
        }
        replay = Uniform(capacity=200, batch_size=16, warmup=32)
        return {
            "": (cls(**few, replay=replay), "CartPole-v1"),
            "with memory": (cls(**few, **remembers), "CartPoleNoVel-v1"),
        }


def _as_sequence(batch: Transition) -> Transition:
    """A batch [B, ...] as sequences of one step [1, B, ...]."""
    return jax.tree.map(lambda x: x[None], batch)


def select(values: Array, action: Array) -> Array:
    """values[..., action], [...]."""
    return jnp.where(action[..., None] == jnp.arange(values.shape[-1]), values, 0.0).sum(-1)
