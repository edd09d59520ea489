"""Value iteration and policy iteration as algorithms: a sweep over all states for each step, so that values can be
watched as they spread."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Discrete

from thorndike.algorithms.tabular.numbering import Numbering
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import choose_best, greedy_probabilities, legal
from thorndike.planning.dynamic_programming import Model, model_of, outcomes
from thorndike.planning.simulator import Rules
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep


class Actor(NamedTuple):
    """The table, and which row and column of it is which."""

    q: Array  # [S, A]
    rows: Numbering  # of observations
    columns: Numbering  # of actions


class State(NamedTuple):
    """All that changes, and the model, which does not."""

    q: Array  # [S, A]
    clock: Clock
    rows: Numbering
    columns: Numbering
    rules: Rules


class Sweepable(NamedTuple):
    """A model as sweeps read it: K successors of each pair, float32."""

    successor: Array  # [S, A, K]
    probability: Array  # [S, A, K]; that of terminal successors is 0, for they are worth nothing
    reward: Array  # [S, A]; 0 in terminal states

    def q(self, v: Array, discount: Array | float) -> Array:
        """R + γ Σ P V of values [S]: [S, A]."""
        return self.reward + discount * (self.probability * v[self.successor]).sum(-1)


@algorithm(
    name="value-iteration",
    summary="dynamic programming with the environment's transition probabilities",
    actions="Discrete, of environments with `transitions()`",
)
class ValueIteration:
    """Value iteration (Bellman 1957).

    Q(s, a) <- R(s, a) + γ Σ_s' P(s' | s, a) max_a' Q(s', a'), in all states at once, Q(terminal, ·) = 0

    It plans with the probabilities that the environment says (`transitions()`), and learns nothing from the steps that
    it acts greedily in: each step is the time for `sweeps` sweeps. Of an agent's file Q alone is needed to act.
    """

    looks_ahead = True  # the environment itself is the model

    discount: Fraction = 0.99  # γ; with 1, episodes have to end whatever is done, or cost something at every step
    initial_value: float = 0.0  # Q before the first sweep
    sweeps: int = 1  # over all states, for each rollout
    num_envs: int = 1
    rollout_length: int = 1

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.sweeps, self.num_envs, self.rollout_length)
        require(min(sizes) > 0, "sweeps, num_envs and rollout_length must be positive")

    def supports(self, spec: Spec) -> str | None:
        """JAX environments that say their transition probabilities."""
        name = type(self).__name__
        if not hasattr(spec.model, "transitions"):
            what = "this environment" if spec.model is None else type(spec.model).__name__
            return (
                f"{name} plans with transition probabilities, which {what} does not say: it needs a JAX environment "
                "with a method transitions() (td.FiniteMDP), such as GridWorld, FourRooms, FrozenLake-v1 or Taxi-v4"
            )
        if not isinstance(spec.observation, Discrete) or not isinstance(spec.action, Discrete):
            return f"{name} needs Discrete observations, which number the states, and Discrete actions"
        return None

    def init(self, key: Array, spec: Spec) -> State:
        """A constant table."""
        rows, columns = Numbering.of(spec.observation), Numbering.of(spec.action)
        assert rows is not None
        assert columns is not None
        table = jnp.full((rows.count, columns.count), self.initial_value, jnp.float32)
        clock = Clock(jnp.int32(0), jnp.int32(spec.steps))
        return State(table, clock, rows, columns.from_zero(), Rules(spec.model))

    def actor(self, state: State) -> Actor:
        """The table."""
        return Actor(state.q, state.rows, state.columns)

    def carry(self, actor: Actor, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """Q(s, ·), its maximum, and the greedy π(· | s)."""
        values, mask = actor.q[actor.rows.number(now.obs)], self.mask(actor, now)
        pi = greedy_probabilities(values, 0.0, mask)
        return Look(Categorical(jnp.log(pi)), legal(values, mask).max(-1), values), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """The best legal action; ties are broken at random."""
        values, mask = actor.q[actor.rows.number(now.obs)], self.mask(actor, now)
        return actor.columns.member(choose_best(key, values, mask)), carry, {}

    def mask(self, actor: Actor, now: Timestep) -> Array | None:
        """Which columns are legal, [E, A]; None: all of them."""
        mask = now.info.get("mask")
        return None if mask is None else actor.columns.legal(mask)

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """Plan; the rollout says nothing new."""
        q = self.plan(state.q, sweepable(model_of(state.rules.env)))
        return state._replace(q=q), {"td_error": jnp.abs(q - state.q).max(), "q_value": q.max(-1).mean()}

    def plan(self, q: Array, model: Sweepable) -> Array:
        """Q [S, A] after `sweeps` of its maximum."""
        return jax.lax.fori_loop(0, self.sweeps, lambda _, q: model.q(q.max(-1), self.discount), q)

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment: as many steps as values need to settle."""
        return {
            "GridWorld": {"steps": 100},
            "DynaMaze": {"steps": 100},
            "CliffWalking-v1": {"steps": 100, "discount": 1.0},
            "CliffWalkingSlippery-v1": {"steps": 1_000, "discount": 1.0},
            "FourRooms": {"steps": 500},
            "FrozenLake-v1": {"steps": 1_000},
            "FrozenLake8x8-v1": {"steps": 1_000},
            "Taxi-v3": {"steps": 200},
            "Taxi-v4": {"steps": 200},
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        return {"": (cls(num_envs=2, rollout_length=2, initial_value=1.0), "FourRooms")}


@algorithm(
    name="policy-iteration",
    summary="policy iteration: evaluation of the greedy policy, and improvement, by turns",
    actions="Discrete, of environments with `transitions()`",
)
class PolicyIteration(ValueIteration):
    """Policy iteration (Howard 1960), with evaluation by sweeps (modified policy iteration, Puterman & Shin 1978).

    π(s) = argmax_a Q(s, a), and then `sweeps` times Q(s, a) <- R(s, a) + γ Σ_s' P(s' | s, a) Q(s', π(s'))

    With one sweep it is value iteration, with many Howard's. `planning.dynamic_programming.policy_iteration` evaluates
    by a linear solve.
    """

    sweeps: int = 20  # of evaluation, before each improvement of the policy

    def plan(self, q: Array, model: Sweepable) -> Array:
        """Q [S, A] after one improvement and `sweeps` of evaluation."""
        policy = q.argmax(-1)[:, None]
        value = lambda q: jnp.take_along_axis(q, policy, -1)[:, 0]  # noqa: E731
        return jax.lax.fori_loop(0, self.sweeps, lambda _, q: model.q(value(q), self.discount), q)


def sweepable(model: Model) -> Sweepable:
    """A model as float32 constants."""
    successor, probability = outcomes(model)
    probability = np.where(model.terminal[successor] | model.terminal[:, None, None], 0.0, probability)
    reward = np.where(model.terminal[:, None], 0.0, model.reward)
    return Sweepable(jnp.asarray(successor, jnp.int32), jnp.asarray(probability, jnp.float32), jnp.float32(reward))
