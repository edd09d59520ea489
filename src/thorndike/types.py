"""The core types: what the world shows, what is remembered of it, and what an algorithm is.

Axes, everywhere: `T` time, `E` environments, `B` batch, `A` actions, `K` ensemble members, `R` runs (seeds and
configurations of one call).
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from gymnasium import Space

PyTree = Any
Array = jax.Array
Metrics = dict[str, Array]

SHOWN = ("mask", "state")  # keys of `info` that belong to an observation
EARNED = ("cost", "success", "terms", "log")  # those that belong to a step, as its reward does


@dataclasses.dataclass(frozen=True)
class Spec:
    """What an algorithm may know of its environment and its budget."""

    observation: Space  # of one environment, Gymnasium's
    action: Space  # of one environment, Gymnasium's
    steps: int = 0  # environment steps planned for the run: what schedules run over
    id: str = ""  # the name that made the environment
    masked: bool = False  # info["mask"] says which actions are legal
    model: Any = None  # the environment itself, where it is a JAX one: for algorithms that look ahead
    horizon: int | None = None  # the environment's time limit: no episode has more steps; None: not known
    goal: Any = None  # rewards and terminations for other goals, where there are any: see `thorndike.envs.goals`

    @property
    def players(self) -> int:
        """How many take turns: 1, but for games."""
        return getattr(self.model, "players", 1)


class Clock(NamedTuple):
    """How far a run is. Algorithms with schedules keep one in their state; drivers move `total` on resume."""

    steps: Array  # environment steps learned from
    total: Array  # environment steps planned

    @property
    def progress(self) -> Array:
        """Fraction of the plan that is done, in [0, 1]."""
        return (self.steps / self.total).clip(0.0, 1.0)


class Timestep(NamedTuple):
    """What the world shows now. Leading axis [E]."""

    obs: PyTree  # act on this (after an auto-reset: the new episode's first observation)
    reward: Array  # reward of the step that led here
    terminated: Array  # the task ended: there is no future to bootstrap from
    truncated: Array  # the clock or the driver ended it: bootstrap from final_obs
    final_obs: PyTree  # true successor observation, also when the episode just ended
    first: Array  # obs is the first of an episode: reset carries here
    info: dict[str, Array]  # of `SHOWN`: "mask" (legal actions at obs), "final_mask" (at final_obs)
    sim: PyTree = ()  # simulator state; JAX environments only, never stored
    earned: dict[str, PyTree] = {}  # of `EARNED`, by the step that led here; only until it is written down


class Transition(NamedTuple):
    """One step of experience. Leading axes [T, E]."""

    obs: PyTree
    first: Array  # obs began an episode
    action: PyTree
    extras: dict[str, PyTree]  # what `act` wants `learn` to know
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: PyTree  # the true successor, never the next episode's first observation
    info: dict[str, PyTree]  # "mask" at obs, "next_mask" at next_obs; what the step earned: "cost", "success", ...

    @property
    def ended(self) -> Array:
        """Whether the episode ended with this step, for either reason."""
        return self.terminated | self.truncated


class Rollout(NamedTuple):
    """A chunk of experience: what `learn` eats."""

    steps: Transition  # [T, E, ...]
    carry: PyTree  # acting memory at the chunk's start
    last: Timestep  # where the chunk stopped, without the simulator  [E, ...]


class Look(NamedTuple):
    """What an agent thinks of what it sees. Leading axis [E]; () for what an algorithm does not know."""

    pi: Any = ()  # the distribution that it acts by, in network units, of legal actions; see `ops.distributions`
    value: PyTree = ()  # V(s), [E]
    q: PyTree = ()  # Q(s, a) of every action, [E, A]
    returns: PyTree = ()  # their distributions: values [E, A, N], and the probabilities of these


class Step(NamedTuple):
    """What one JAX environment answers to `reset` and `step`; a single instance, no leading axis."""

    state: PyTree
    obs: PyTree
    reward: Any = 0.0
    terminated: Any = False
    info: dict[str, PyTree] = {}  # see `Environment`


@runtime_checkable
class Environment(Protocol):
    """A JAX environment: a config of pure functions over one instance. It never resets itself.

    `max_steps` is its time limit; the wrapper counts it and reports `truncated`. Spaces do not depend on float fields.
    Where not all actions are legal, each `Step` has a mask of those that are at `obs`, `info["mask"]` (shapes:
    `thorndike.envs.masks`). It allows some action everywhere, but for where the episode terminates.
    What else a step says goes into its `info` too, but not into that of `reset`: "cost" (a float, or several [k]),
    "success" (a bool), "terms" of the reward and numbers to "log" (dicts of floats by name). Costs and terms add up
    over an episode, of the others it has the last; all are metrics, and evaluations report them.
    With a method `again(state, key)` the episodes after the first begin with that, from the state in which the last one
    ended.
    """

    max_steps: int

    @property
    def observation_space(self) -> Space: ...

    @property
    def action_space(self) -> Space: ...

    def reset(self, key: Array) -> Step: ...

    def step(self, state: PyTree, action: Array, key: Array) -> Step: ...


@runtime_checkable
class FiniteMDP(Environment, Protocol):
    """A JAX environment with S states and A actions of which all is known; its observations number the states from 0.

    Dynamic programming needs no more: V(s) = max_a R(s, a) + γ Σ_s' P(s' | s, a) V(s').
    """

    def transitions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """P(s' | s, a) [S, A, S'], the expected reward R(s, a) [S, A], and which states end an episode [S], in float64.

        Every P(· | s, a) sums to 1. Terminal states lead to themselves with reward 0, whatever is done there. Rows of
        states that no episode visits may say anything.
        """


class Algorithm(Protocol):
    """An on-policy algorithm: it learns from each rollout once.

    An off-policy one has `update(state, batch, key) -> state, metrics` in the place of `learn`, and a `replay` and a
    `replay_ratio`; the drivers keep what came in that memory and draw batches from it (`collect` and `improve` in
    `thorndike.drivers.learner`). With a method `experience(rollout)` it chooses what of a rollout is remembered.
    A replay with a method `bind(memory, spec)` is told which environment its memory is for.
    With a method `gather(play, world, actor, carry, now, key, how)` it takes its experience on JAX environments by
    rollouts of its own choice, `play(world, actor, carry, now, key, how, length)`, and gives back what `play` does: a
    `Rollout` of `rollout_length` steps, the timestep and the carry after it.
    With names in `takes` it is given agents beside its settings: `learn` or `update` gets `given`, a tuple of
    `nets.frozen.Frozen` for each name; a method `accepts(given, spec)` says, as `supports` does, what is wrong.
    Before the first update actions are random: with a method `taken(actor, carry, action)`, which gives the carry as if
    `act` had chosen that action, an algorithm that remembers its last action remembers what was done.
    With a method `adopted(state)` it mends a state of which only a part came from elsewhere: targets follow, say.
    """

    num_envs: int
    rollout_length: int

    def supports(self, spec: Spec) -> str | None:
        """None, or one sentence that says why this algorithm cannot serve such an environment."""

    def init(self, key: Array, spec: Spec) -> PyTree: ...

    def actor(self, state: PyTree) -> PyTree:
        """The small part that acting needs; what is exported."""

    def carry(self, actor: PyTree, n: int) -> PyTree:
        """Acting memory for n environments; () for most."""

    def look(self, actor: PyTree, carry: PyTree, now: Timestep, explore: bool) -> tuple[Look, PyTree]:
        """What the agent thinks of `now`, and the next carry: what `act` decides by."""

    def act(
        self, actor: PyTree, carry: PyTree, now: Timestep, key: Array, explore: bool
    ) -> tuple[PyTree, PyTree, dict[str, PyTree]]:
        """Action [E, ...], next carry, extras."""

    def learn(self, state: PyTree, rollout: Rollout, key: Array) -> tuple[PyTree, Metrics]: ...
