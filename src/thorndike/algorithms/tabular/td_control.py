"""Tabular temporal-difference control: Q-learning, SARSA and Expected SARSA."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete, MultiDiscrete

from thorndike.algorithms.tabular.numbering import Numbering
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import Epsilon, Softmax, choose_best, greedy_probabilities, legal
from thorndike.ops.returns import td_target
from thorndike.schedules import Linear, is_schedule
from thorndike.text import brief
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition

MOST = 50_000_000  # entries of a table: 200 MB


class Actor(NamedTuple):
    """The table, the present ε or temperature, and which row and column of the table is which."""

    q: Array  # [S, A]
    level: Array
    rows: Numbering  # of observations
    columns: Numbering  # of actions
    visits: PyTree = ()  # of each pair [S, A], where a bonus counts them


class State(NamedTuple):
    """All that changes."""

    q: Array  # [S, A]
    visits: PyTree  # updates of each pair [S, A], for a step size or a bonus that counts them; else ()
    clock: Clock
    waiting: PyTree  # SARSA's last step [E], whose next action is still to come; () for the others
    rows: Numbering  # of observations
    columns: Numbering  # of actions


@algorithm(
    name="q-learning",
    summary="tabular Q-learning",
    actions="Discrete, MultiDiscrete (and finite observations)",
)
class QLearning:
    """Q-learning (Watkins 1989).

    Q(s, a) <- Q(s, a) + α [ r + γ (1 - terminated) max_a' Q(s', a') - Q(s, a) ]

    With a `count_bonus` β, Q(s, a) + β / √(1 + N(s, a)) takes the place of Q in exploration and in the targets, N being
    how often a was taken in s. Its fixed point for given N is the one of MBIE-EB (Strehl & Littman 2008, eq. 6).
    """

    learning_rate: Fraction = 0.1  # α; td.Harmonic() is 1 / N(s, a)
    discount: Fraction = 0.99  # γ
    initial_value: float = 0.0  # Q before any experience; above any return it explores by optimism
    count_bonus: NonNegative | None = None  # β; None: none
    exploration: Epsilon | Softmax = Epsilon(start=0.1, end=0.1)
    num_envs: int = 1
    rollout_length: int = 1

    counts_visits = True  # a schedule may count the updates of each pair

    def check(self) -> None:
        """Positive sizes."""
        require(self.num_envs > 0 and self.rollout_length > 0, "num_envs and rollout_length must be positive")

    def supports(self, spec: Spec) -> str | None:
        """Observations and actions that can be counted, and not too many of them."""
        rows, columns = Numbering.of(spec.observation), Numbering.of(spec.action)
        if rows is None or columns is None or not isinstance(spec.action, (Discrete, MultiDiscrete)):
            return (
                "a table needs observations of Discrete, MultiDiscrete and MultiBinary parts and Discrete or "
                f"MultiDiscrete actions, not {brief(spec.observation)} and {brief(spec.action)}"
            )
        if rows.count * columns.count > MOST:
            return (
                f"a table of {rows.count:,} observations and {columns.count:,} actions has "
                f"{rows.count * columns.count:,} entries, and {MOST:,} are the most: leave parts of the observation "
                "out, or make them coarser"
            )
        return None

    def init(self, key: Array, spec: Spec) -> State:
        """A constant table."""
        rows, columns = Numbering.of(spec.observation), Numbering.of(spec.action)
        assert rows is not None
        assert columns is not None
        table = jnp.full((rows.count, columns.count), self.initial_value, jnp.float32)
        counts = is_schedule(self.learning_rate) or self.count_bonus is not None
        visits = jnp.zeros_like(table) if counts else ()
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        return State(table, visits, clock, self.first_waiting(), rows, columns.from_zero())

    def first_waiting(self) -> PyTree:
        """Nothing waits: the target is known at once."""
        return ()

    def actor(self, state: State) -> Actor:
        """The table and the level of exploration."""
        visits = () if self.count_bonus is None else state.visits
        return Actor(state.q, self.exploration.level(state.clock.progress), state.rows, state.columns, visits)

    def hoped(self, q: Array, visits: PyTree, *at: Array) -> Array:
        """Q at rows [E], or at rows and columns, with the bonus of what was tried seldom."""
        return q[at] if self.count_bonus is None else q[at] + self.count_bonus / jnp.sqrt(1.0 + visits[at])

    def carry(self, actor: Actor, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """Q(s, ·), its maximum, and π(· | s), over the table's columns."""
        s, mask = actor.rows.number(now.obs), self.mask(actor, now.info.get("mask"))
        values = self.hoped(actor.q, actor.visits, s) if explore else actor.q[s]
        if explore:
            pi = self.exploration.probabilities(values, actor.level, mask)
        else:
            pi = greedy_probabilities(values, 0.0, mask)
        return Look(Categorical(jnp.log(pi)), legal(values, mask).max(-1), values), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Explore, or take the best legal action; ties are broken at random."""
        values, mask = self.look(actor, carry, now, explore)[0].q, self.mask(actor, now.info.get("mask"))
        chosen = self.exploration.choose(key, values, actor.level, mask) if explore else choose_best(key, values, mask)
        return actor.columns.member(chosen), carry, {}

    def mask(self, table: Actor | State, mask: Array | None) -> Array | None:
        """Which columns are legal, [E, A]; None: all of them."""
        return None if mask is None else table.columns.legal(mask)

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One update a step, in the order in which they happened."""
        level = self.exploration.level(state.clock.progress)

        def step(carry: tuple[Array, PyTree], transition: Transition):
            q, visits = carry
            s, a = state.rows.number(transition.obs), state.columns.number(transition.action)
            mask = self.mask(state, transition.info.get("next_mask"))
            next_q = self.hoped(q, visits, state.rows.number(transition.next_obs))
            next_value = self.next_value(legal(next_q, mask), level, mask)
            target = td_target(transition.reward, next_value, transition.terminated, self.discount)
            error = target - q[s, a]
            return self.moved(q, visits, s, a, error), metrics(error, q[s])

        (q, visits), found = jax.lax.scan(step, (state.q, state.visits), rollout.steps)
        return state._replace(q=q, visits=visits), jax.tree.map(jnp.mean, found)

    def moved(
        self, q: Array, visits: PyTree, s: Array, a: Array, error: Array, used: Array | bool = True
    ) -> tuple[Array, PyTree]:
        """Q [S, A] with α · error [E] added at (s, a), and the visits; environments that meet there move it by the mean
        of theirs. Errors that are not `used` change nothing."""
        same = (s[:, None] == s) & (a[:, None] == a) & used
        counted = is_schedule(self.learning_rate)
        rate = self.learning_rate.of(visits[s, a]) if counted else self.learning_rate  # type: ignore[attr-defined]
        if counted or self.count_bonus is not None:
            visits = visits.at[s, a].add(jnp.broadcast_to(used, s.shape))
        return q.at[s, a].add(rate * error / jnp.maximum(same.sum(1), 1)), visits

    def next_value(self, next_q: Array, level: Array, mask: Array | None) -> Array:
        """max_a' Q(s', a'), [E]."""
        return next_q.max(-1)

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        chance = {"num_envs": 16, "learning_rate": Linear(0.2, 0.01)}  # for worlds that do not always answer the same
        taxi = {"steps": 200_000, "num_envs": 8}
        return {
            "GridWorld": {"steps": 20_000},
            "CliffWalking-v1": {"steps": 20_000, "discount": 1.0, "learning_rate": 0.5},
            "CliffWalkingSlippery-v1": {"steps": 500_000, **chance},
            "FourRooms": {"steps": 200_000, **chance},
            "DynaMaze": {"steps": 50_000, "discount": 0.95},
            "FrozenLake-v1": {"steps": 200_000, **chance},
            "FrozenLake8x8-v1": {"steps": 1_000_000, **chance},
            "BoatRace": {"steps": 60_000, "exploration": Epsilon(start=1.0, end=0.02, fraction=0.7)},
            "DeepSea": {"steps": 20_000, "discount": 1.0, "learning_rate": 0.5, "count_bonus": 0.1},
            "RiverSwim": {"steps": 200_000, "num_envs": 4, "discount": 0.95, "count_bonus": 0.5},
            "Taxi-v3": taxi,
            "Taxi-v4": taxi,
            "Blackjack-v1": {
                "steps": 1_000_000, "num_envs": 16, "discount": 1.0, "learning_rate": Linear(0.05, 0.001),
                "exploration": Epsilon(start=1.0, end=0.05, fraction=0.8),
            },
        }  # fmt: skip

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        exploring = Epsilon(start=0.9, end=0.1)
        few: dict[str, Any] = {"num_envs": 2, "rollout_length": 3, "exploration": exploring}
        return {
            "": (cls(**few), "CliffWalking-v1"),
            "with a bonus": (cls(**few, count_bonus=0.5), "RiverSwim"),
        }


@algorithm(
    name="expected-sarsa",
    summary="tabular Expected SARSA",
    actions="Discrete, MultiDiscrete (and finite observations)",
)
class ExpectedSARSA(QLearning):
    """Expected SARSA (van Seijen et al. 2009).

    Q(s, a) <- Q(s, a) + α [ r + γ (1 - terminated) Σ_a' π(a' | s') Q(s', a') - Q(s, a) ]
    """

    def next_value(self, next_q: Array, level: Array, mask: Array | None) -> Array:
        """Σ_a' π(a' | s') Q(s', a') under the exploring policy, [E]."""
        return (self.exploration.probabilities(next_q, level, mask) * next_q).sum(-1)


@algorithm(
    name="sarsa",
    summary="tabular SARSA",
    actions="Discrete, MultiDiscrete (and finite observations)",
)
class SARSA(ExpectedSARSA):
    """SARSA (Rummery & Niranjan 1994).

    Q(s, a) <- Q(s, a) + α [ r + γ (1 - terminated) Q(s', a') - Q(s, a) ],   a' the action taken next

    The last step of a rollout waits for its a' until the next one. Where an episode was truncated there is no a';
    Expected SARSA's mean stands in for it.
    """

    def first_waiting(self) -> PyTree:
        """A step that changes nothing."""
        nothing = jnp.zeros(self.num_envs, jnp.int32)
        return {"s": nothing, "a": nothing, "target": jnp.zeros(self.num_envs), "known": nothing - 1, "next": nothing}

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """Finish the step that waits with the action that followed it, step after step."""
        level = self.exploration.level(state.clock.progress)

        def step(carry, transition: Transition):
            q, visits, waiting = carry
            s, a = state.rows.number(transition.obs), state.columns.number(transition.action)
            (q, visits), error = self.finish(q, visits, waiting, a, transition.first)
            mask, next_s = self.mask(state, transition.info.get("next_mask")), state.rows.number(transition.next_obs)
            mean = self.next_value(legal(self.hoped(q, visits, next_s), mask), level, mask)
            target = td_target(transition.reward, mean, transition.terminated, self.discount)
            waiting = {
                "s": s,
                "a": a,
                "target": jnp.where(transition.ended, target, transition.reward),
                "known": transition.ended.astype(jnp.int32),
                "next": next_s,
            }
            return (q, visits, waiting), metrics(error, q[s])

        (q, visits, waiting), found = jax.lax.scan(step, (state.q, state.visits, state.waiting), rollout.steps)
        return state._replace(q=q, visits=visits, waiting=waiting), jax.tree.map(jnp.mean, found)

    def finish(
        self, q: Array, visits: PyTree, waiting: PyTree, then: Array, first: Array
    ) -> tuple[tuple[Array, PyTree], Array]:
        """The update of the step that waits, now that a' is known: `then`, [E]; none where `first` says that a resumed
        run began another episode."""
        s, a = waiting["s"], waiting["a"]
        later = self.discount * self.hoped(q, visits, waiting["next"], then)
        target = jnp.where(waiting["known"] == 1, waiting["target"], waiting["target"] + later)
        lost = (waiting["known"] < 0) | ((waiting["known"] == 0) & first)
        error = jnp.where(lost, 0.0, target - q[s, a])
        return self.moved(q, visits, s, a, error, ~lost), error


def metrics(error: Array, values: Array) -> Metrics:
    """The sizes of the TD errors [E], and the best values of the states [E, A] that were met."""
    return {"td_error": jnp.abs(error).mean(), "q_value": values.max(-1).mean()}
