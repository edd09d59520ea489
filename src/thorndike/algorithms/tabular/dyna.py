"""Tabular learning with a learned model: Dyna-Q, Dyna-Q+ and prioritised sweeping.

The model is what followed each pair of state and action the last time: right in deterministic worlds. Where chance
decides, it takes the last outcome for the only one; Q-learning does not, nor does dynamic programming.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from thorndike.algorithms.tabular.numbering import Numbering
from thorndike.algorithms.tabular.td_control import QLearning
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative
from thorndike.ops.exploration import Epsilon, Softmax, legal
from thorndike.ops.returns import td_target
from thorndike.types import Array, Clock, Metrics, Rollout, Spec


class Model(NamedTuple):
    """What followed each pair the last time that it was tried."""

    successor: Array  # [S, A]; the state itself before the first time
    reward: Array  # [S, A]; 0 before
    terminated: Array  # [S, A], bool
    legal: Array  # which actions are legal in each state, as far as that was seen  [S, A], bool
    known: Array  # the pairs that planning may draw                                [S, A], bool
    order: Array  # their numbers s * A + a, in the order in which they came        [S * A]
    size: Array  # how many they are
    tried: Array  # the time of the last try of each pair                           [S, A]
    time: Array  # steps so far


class State(NamedTuple):
    """All that changes."""

    q: Array  # [S, A]
    model: Model
    priority: Array  # of each pair in prioritised sweeping [S, A]; () for the others
    clock: Clock
    rows: Numbering  # of observations
    columns: Numbering  # of actions


class Seen(NamedTuple):
    """One step, by numbers."""

    s: Array
    a: Array
    reward: Array
    terminated: Array
    next_s: Array
    mask: Any  # legal actions in s and in s', [A] each; () where all are
    next_mask: Any


@algorithm(
    name="dyna-q",
    summary="Dyna-Q: Q-learning that also replays a model of what it has seen",
    actions="Discrete, MultiDiscrete (and finite observations)",
)
class DynaQ(QLearning):
    """Dyna-Q (Sutton 1990; Sutton & Barto 2018, section 8.2).

    Q(s, a) <- Q(s, a) + α [ r + γ (1 - terminated) max_a' Q(s', a') - Q(s, a) ]

    After each step this is done once with what happened, and `planning` times with what the model says of pairs (s, a)
    drawn uniformly from those tried before. Steps of several environments are learned from one after another.
    """

    counts_visits = False  # the pairs that planning draws are no visits
    plans_untried = False  # whether planning draws all actions of states that were visited

    learning_rate: Fraction = 0.1  # α
    discount: Fraction = 0.95  # γ
    initial_value: float = 0.0  # Q before any experience
    exploration: Epsilon | Softmax = Epsilon(start=0.1, end=0.1)
    planning: int = 50  # n, updates from the model after each step; 0: Q-learning
    num_envs: int = 1
    rollout_length: int = 1

    def check(self) -> None:
        """Positive sizes."""
        super().check()
        name = type(self).__name__
        require(self.planning >= 0, f"{name}.planning must not be negative, got {self.planning}")
        require(
            self.count_bonus is None,
            f"{name} counts no visits: leave count_bonus out, or take DynaQPlus, whose bonus is for what was not tried "
            "for long",
        )

    def init(self, key: Array, spec: Spec) -> Any:
        """A constant table and an empty model."""
        plain = super().init(key, spec)
        s, a = plain.q.shape
        no = jnp.zeros((s, a), bool)
        model = Model(
            successor=jnp.broadcast_to(jnp.arange(s)[:, None], (s, a)),
            reward=jnp.zeros((s, a)),
            terminated=no,
            legal=~no,
            known=no,
            order=jnp.zeros(s * a, jnp.int32),
            size=jnp.int32(0),
            tried=jnp.zeros((s, a), jnp.int32),
            time=jnp.int32(0),
        )
        return State(plain.q, model, self.first_priority(plain.q), plain.clock, plain.rows, plain.columns)

    def first_priority(self, q: Array) -> Any:
        """Nothing is urgent: pairs are drawn uniformly."""
        return ()

    def learn(self, state: Any, rollout: Rollout, key: Array) -> tuple[Any, Metrics]:
        """Each step in turn: its own update, what it says of the world, and planning."""
        steps = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollout.steps)
        mask, next_mask = (
            state.columns.legal(steps.info[name]) if name in steps.info else () for name in ("mask", "next_mask")
        )
        seen = Seen(
            state.rows.number(steps.obs),
            state.columns.number(steps.action),
            steps.reward,
            steps.terminated,
            state.rows.number(steps.next_obs),
            mask,
            next_mask,
        )

        def one(state: State, x: tuple[Seen, Array]):
            seen, key = x
            model = remember(state.model, seen, self.plans_untried)
            state, error = self.observe(state._replace(model=model), seen)
            state, planned = self.plan(state, key)
            q_value = legal(state.q[seen.s], model.legal[seen.s]).max()
            return state, {"td_error": jnp.abs(error), "q_value": q_value, **planned}

        state, found = jax.lax.scan(one, state, (seen, jax.random.split(key, len(seen.s))))
        return state, {**jax.tree.map(jnp.mean, found), "model_size": state.model.size.astype(jnp.float32)}

    def observe(self, state: State, seen: Seen) -> tuple[State, Array]:
        """The update of a step that was made, and its TD error."""
        error = self.error(state.q, state.model, seen.s, seen.a)
        return state._replace(q=state.q.at[seen.s, seen.a].add(self.learning_rate * error)), error

    def plan(self, state: State, key: Array) -> tuple[State, Metrics]:
        """`planning` updates of pairs drawn from the model."""
        model, columns = state.model, state.q.shape[1]
        drawn = model.order[jax.random.randint(key, (self.planning,), 0, model.size)]

        def backup(q: Array, pair: Array):
            s, a = pair // columns, pair % columns
            error = self.error(q, model, s, a) + self.curiosity(model, s, a)
            return q.at[s, a].add(self.learning_rate * error), jnp.abs(error)

        q, errors = jax.lax.scan(backup, state.q, drawn)
        return state._replace(q=q), {"planning_error": errors.mean()} if self.planning else {}

    def error(self, q: Array, model: Model, s: Array, a: Array) -> Array:
        """r + γ (1 - terminated) max_a' Q(s', a') - Q(s, a) of what the model says."""
        after = model.successor[s, a]
        value = legal(q[after], model.legal[after]).max(-1)
        return td_target(model.reward[s, a], value, model.terminated[s, a], self.discount) - q[s, a]

    def curiosity(self, model: Model, s: Array, a: Array) -> Array | float:
        """What planning adds to the reward: nothing."""
        return 0.0

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment. Of the changing mazes: α = 1, as their worlds are deterministic."""
        return {
            "DynaMaze": {"steps": 5_000},
            "GridWorld": {"steps": 5_000},
            "CliffWalking-v1": {"steps": 5_000, "discount": 1.0, "learning_rate": 0.5},
            "Taxi-v3": {"steps": 30_000, "learning_rate": 0.5, "planning": 20},
            "Taxi-v4": {"steps": 30_000, "learning_rate": 0.5, "planning": 20},
            "BlockingMaze": {"steps": 3_000, "learning_rate": 1.0, "planning": 10},
            "ShortcutMaze": {"steps": 6_000, "learning_rate": 1.0, "planning": 50},
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        exploring = Epsilon(start=0.9, end=0.1)
        few: dict[str, Any] = {"num_envs": 2, "rollout_length": 3, "planning": 20, "exploration": exploring}
        return {"": (cls(**few), "CliffWalking-v1")}


@algorithm(
    name="dyna-q-plus",
    summary="Dyna-Q with a bonus for what was not tried for long, for worlds that change",
    actions="Discrete, MultiDiscrete (and finite observations)",
    aliases=("dyna-q+",),
)
class DynaQPlus(DynaQ):
    """Dyna-Q+ (Sutton 1990; Sutton & Barto 2018, section 8.3): Dyna-Q that keeps testing its model.

    Planning rewards a pair with r + κ √τ, where τ is how many steps ago it was last tried. It also draws actions that
    were never tried in a state that was visited, as if they led back to that state with reward 0.
    """

    plans_untried = True

    bonus: NonNegative = 1e-3  # κ

    def curiosity(self, model: Model, s: Array, a: Array) -> Array:
        """κ √τ."""
        return self.bonus * jnp.sqrt((model.time - model.tried[s, a]).astype(jnp.float32))

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        found = super().presets()
        return {
            **{name: {**found[name], "bonus": 1e-4} for name in ("DynaMaze", "BlockingMaze")},
            "ShortcutMaze": found["ShortcutMaze"],
        }


@algorithm(
    name="prioritised-sweeping",
    summary="prioritised sweeping: planning where values are most out of date",
    actions="Discrete, MultiDiscrete (and finite observations)",
    aliases=("prioritized-sweeping",),
)
class PrioritisedSweeping(DynaQ):
    """Prioritised sweeping (Moore & Atkeson 1993; Peng & Williams 1993) as in Sutton & Barto (2018, section 8.4).

    p(s, a) = |r + γ (1 - terminated) max_a' Q(s', a') - Q(s, a)|

    A pair waits where p > θ. After each step the most urgent pairs, `planning` of them, are updated one after another,
    and whenever Q(s, ·) changes the pairs that lead to s get their new priority. Finding these costs S·A operations an
    update: it is for tables of some thousand pairs.
    """

    learning_rate: Fraction = 0.5  # α
    planning: int = 5  # n, most updates after each step
    threshold: NonNegative = 1e-4  # θ

    def first_priority(self, q: Array) -> Array:
        """No pair waits."""
        return jnp.zeros_like(q)

    def observe(self, state: State, seen: Seen) -> tuple[State, Array]:
        """The pair waits for its update, if that is large enough."""
        error = self.error(state.q, state.model, seen.s, seen.a)
        urgent = jnp.where(jnp.abs(error) > self.threshold, jnp.abs(error), 0.0)
        return state._replace(priority=state.priority.at[seen.s, seen.a].max(urgent)), error

    def plan(self, state: State, key: Array) -> tuple[State, Metrics]:
        """`planning` updates, or until nothing waits."""
        model, columns = state.model, state.q.shape[1]

        def backup(_: int, carry: tuple[Array, Array]):
            q, priority = carry
            pair = priority.argmax()
            s, a = pair // columns, pair % columns
            waits = priority[s, a] > 0
            error = self.error(q, model, s, a)
            q = q.at[s, a].add(jnp.where(waits, self.learning_rate * error, 0.0))
            priority = priority.at[s, a].multiply(jnp.where(waits, 0.0, 1.0))
            gap = jnp.abs(model.reward + self.discount * legal(q[s], model.legal[s]).max() - q)
            urgent = leading_to(model, s) & (gap > self.threshold) & waits
            return q, jnp.where(urgent, jnp.maximum(priority, gap), priority)

        q, priority = jax.lax.fori_loop(0, self.planning, backup, (state.q, state.priority))
        mean = jnp.where(model.known, model.reward, 0.0).sum() / jnp.maximum(model.size, 1)
        return state._replace(q=q, priority=priority), {"priority": priority.max(), "model_reward": mean}


def remember(model: Model, seen: Seen, untried: bool) -> Model:
    """The model after a step. What planning may draw from then on is its pair; with `untried` all legal actions of its
    state."""
    s, a, columns = seen.s, seen.a, model.known.shape[1]
    allowed = model.legal
    if not isinstance(seen.mask, tuple):
        allowed = allowed.at[s].set(seen.mask).at[seen.next_s].set(seen.next_mask)
    drawn = (jnp.arange(columns) == a) | (allowed[s] & untried)
    fresh = drawn & ~model.known[s]
    place = jnp.where(fresh, model.size + jnp.cumsum(fresh) - 1, model.order.size)
    time = model.time + 1
    return Model(
        successor=model.successor.at[s, a].set(seen.next_s),
        reward=model.reward.at[s, a].set(seen.reward),
        terminated=model.terminated.at[s, a].set(seen.terminated),
        legal=allowed,
        known=model.known.at[s].set(model.known[s] | drawn),
        order=model.order.at[place].set(s * columns + jnp.arange(columns), mode="drop"),
        size=model.size + fresh.sum(),
        tried=model.tried.at[s, a].set(time),
        time=time,
    )


def leading_to(model: Model, s: Array) -> Array:
    """The tried pairs after which the episode went on in s, [S, A]."""
    return model.known & (model.successor == s) & ~model.terminated
