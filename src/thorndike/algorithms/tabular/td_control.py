"""Tabular temporal-difference control: Q-learning, SARSA and Expected SARSA."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction
from thorndike.ops.distributions import Categorical
from thorndike.ops.exploration import Epsilon, Softmax, greedy, legal
from thorndike.ops.returns import td_target
from thorndike.schedules import is_schedule
from thorndike.types import Array, Clock, Look, Metrics, PyTree, Rollout, Spec, Timestep, Transition


class Actor(NamedTuple):
    """The table and the present ε or temperature; `start` is the number of the first state."""

    q: Array  # [S, A]
    level: Array
    start: Array


class State(NamedTuple):
    """All that changes."""

    q: Array  # [S, A]
    visits: PyTree  # updates of each pair [S, A], for a step size that counts them; else ()
    clock: Clock
    waiting: PyTree  # SARSA's last step [E], whose next action is still to come; () for the others
    start: Array


@algorithm(
    name="q-learning",
    summary="tabular Q-learning",
    actions="Discrete (and Discrete observations)",
)
class QLearning:
    """Q-learning (Watkins 1989).

    Q(s, a) <- Q(s, a) + α [ r + γ (1 - terminated) max_a' Q(s', a') - Q(s, a) ]
    """

    learning_rate: Fraction = 0.5  # α; td.Harmonic() is 1 / N(s, a)
    discount: Fraction = 1.0  # γ
    initial_value: float = 0.0  # Q before any experience; above any return it explores by optimism
    exploration: Epsilon | Softmax = Epsilon(start=0.1, end=0.1)
    num_envs: int = 1
    rollout_length: int = 1

    counts_visits = True  # a schedule may count the updates of each pair

    def check(self) -> None:
        """Positive sizes."""
        require(self.num_envs > 0 and self.rollout_length > 0, "num_envs and rollout_length must be positive")

    def supports(self, spec: Spec) -> str | None:
        """A table needs numbered states and actions."""
        if isinstance(spec.observation, Discrete) and isinstance(spec.action, Discrete):
            return None
        return f"a table needs Discrete observations and actions, not {spec.observation} and {spec.action}"

    def init(self, key: Array, spec: Spec) -> State:
        """A constant table."""
        states, actions = int(spec.observation.n), int(spec.action.n)  # type: ignore[attr-defined]
        table = jnp.full((states, actions), self.initial_value, jnp.float32)
        start = jnp.int32(spec.observation.start)  # type: ignore[attr-defined]
        visits = jnp.zeros((states, actions)) if is_schedule(self.learning_rate) else ()
        return State(table, visits, Clock(jnp.int32(0), jnp.int32(spec.steps)), self.first_waiting(), start)

    def first_waiting(self) -> PyTree:
        """Nothing waits: the target is known at once."""
        return ()

    def actor(self, state: State) -> Actor:
        """The table and the level of exploration."""
        return Actor(state.q, self.exploration.level(state.clock.progress), state.start)

    def carry(self, actor: Actor, n: int) -> tuple[()]:
        """No acting memory."""
        return ()

    def look(self, actor: Actor, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """Q(s, ·), its maximum, and what it is acted on with."""
        values, mask = actor.q[now.obs - actor.start], now.info.get("mask")
        pi = self.exploration.probabilities(values, actor.level, mask) if explore else greedy(values, mask)
        return Look(Categorical(jnp.log(pi)), legal(values, mask).max(-1), values), carry

    def act(self, actor: Actor, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """Explore, or take the best legal action."""
        values, mask = self.look(actor, carry, now, explore)[0].q, now.info.get("mask")
        if explore:
            return self.exploration.choose(key, values, actor.level, mask), carry, {}
        return legal(values, mask).argmax(-1), carry, {}

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """One update a step, in the order in which they happened."""
        level = self.exploration.level(state.clock.progress)

        def step(carry: tuple[Array, PyTree], transition: Transition):
            q, visits = carry
            s, a = transition.obs - state.start, transition.action
            mask = transition.info.get("next_mask")
            next_value = self.next_value(legal(q[transition.next_obs - state.start], mask), level, mask)
            target = td_target(transition.reward, next_value, transition.terminated, self.discount)
            error = target - q[s, a]
            return self.moved(q, visits, s, a, error), jnp.abs(error).mean()

        (q, visits), error = jax.lax.scan(step, (state.q, state.visits), rollout.steps)
        return state._replace(q=q, visits=visits), self.metrics(state.q, q, error)

    def moved(
        self, q: Array, visits: PyTree, s: Array, a: Array, error: Array, used: Array | bool = True
    ) -> tuple[Array, PyTree]:
        """Q [S, A] with α · error [E] added at (s, a), and the visits; environments that meet there move it by the mean
        of theirs. Errors that are not `used` change nothing."""
        same = (s[:, None] == s) & (a[:, None] == a) & used
        if is_schedule(self.learning_rate):
            rate = self.learning_rate.of(visits[s, a])  # type: ignore[attr-defined]
            visits = visits.at[s, a].add(jnp.broadcast_to(used, s.shape))
        else:
            rate = self.learning_rate
        return q.at[s, a].add(rate * error / jnp.maximum(same.sum(1), 1)), visits

    def next_value(self, next_q: Array, level: Array, mask: Array | None) -> Array:
        """max_a' Q(s', a'), [E]."""
        return next_q.max(-1)

    def metrics(self, before: Array, after: Array, error: Array) -> Metrics:
        """TD error, size of the table's values and of their change."""
        return {
            "td_error": error.mean(),
            "q_value": after.max(-1).mean(),
            "update_norm": jnp.sqrt(((after - before) ** 2).sum()),
        }

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        exploring = Epsilon(start=0.9, end=0.1)
        return {"": (cls(num_envs=2, rollout_length=3, exploration=exploring), "CliffWalking-v1")}


@algorithm(
    name="expected-sarsa",
    summary="tabular Expected SARSA",
    actions="Discrete (and Discrete observations)",
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
    actions="Discrete (and Discrete observations)",
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
            (q, visits), error = self.finish(q, visits, waiting, transition)
            mask = transition.info.get("next_mask")
            next_obs = transition.next_obs - state.start
            mean = self.next_value(legal(q[next_obs], mask), level, mask)
            waiting = {
                "s": transition.obs - state.start,
                "a": transition.action,
                "target": td_target(transition.reward, mean, transition.terminated, self.discount),
                "known": transition.ended.astype(jnp.int32),
                "next": next_obs,
            }
            waiting["target"] = jnp.where(transition.ended, waiting["target"], transition.reward)
            return (q, visits, waiting), error

        (q, visits, waiting), error = jax.lax.scan(step, (state.q, state.visits, state.waiting), rollout.steps)
        return state._replace(q=q, visits=visits, waiting=waiting), self.metrics(state.q, q, error)

    def finish(self, q: Array, visits: PyTree, waiting: PyTree, then: Transition) -> tuple[tuple[Array, PyTree], Array]:
        """The update of the step that waits, now that a' is known; none where a resumed run began another episode."""
        s, a = waiting["s"], waiting["a"]
        later = self.discount * q[waiting["next"], then.action]
        target = jnp.where(waiting["known"] == 1, waiting["target"], waiting["target"] + later)
        lost = (waiting["known"] < 0) | ((waiting["known"] == 0) & then.first)
        error = jnp.where(lost, 0.0, target - q[s, a])
        return self.moved(q, visits, s, a, error, ~lost), jnp.abs(error).mean()
