"""Go-Explore: first return to where one has been, then explore from there."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete

from thorndike.algorithms.exploration.cells import Cells
from thorndike.configuration import algorithm, require
from thorndike.domains import Fraction, NonNegative
from thorndike.ops.distributions import Categorical
from thorndike.text import brief
from thorndike.types import Array, Look, Metrics, Rollout, Spec, Timestep, Transition

MOST = 400  # megabytes of ways


class Way(NamedTuple):
    """Actions from the beginning of an episode, what they earn, and how many they are."""

    actions: Array  # [..., H]
    score: Array  # [...]
    length: Array  # [...]


class Archive(NamedTuple):
    """The best way found to each of C cells, and how often each was seen."""

    way: Way  # [C, ...]; the score is -inf where no way is known
    visits: Array  # [C]
    open: Array  # bool [C]; whether the episode goes on after that way


class Actor(NamedTuple):
    """What acting needs: the archive, and the best way of all."""

    archive: Archive
    best: Way
    cells: Cells


class State(NamedTuple):
    """All that changes."""

    archive: Archive
    best: Way
    walked: Way  # [E, ...], what each environment has done in its episode so far
    cells: Cells


class Carry(NamedTuple):
    """What an environment is about, [E, ...]: the way that it goes back on, where that leads, and its last action."""

    way: Way
    cell: Array
    step: Array
    last: Array


@algorithm(
    name="go-explore",
    summary="Go-Explore: return to a cell of the archive, then explore from it; deterministic environments",
    actions="Discrete (and observations that can be counted or binned)",
)
class GoExplore:
    """Go-Explore's exploration phase, without domain knowledge (Ecoffet et al. 2021, "First return, then explore").

    P(cell) ∝ (1 + visits)^-power,   an episode plays the way to its cell, and then random actions that stick.

    A cell's way is replaced where another one earns more, or as much in fewer steps; a way with which the episode ended
    never takes the place of one from which it goes on. Returning plays the actions that led there, which is exact where
    the environment is deterministic and begins in one state: the metric `returned` is the share of returns that
    arrived, 1 then. No simulator is restored, so it works on the host as well. Evaluation plays the best way found;
    `Run.record` makes a dataset of it, from which `bc` learns a policy.
    """

    bins: int = 8  # parts of each range of an observation's floats
    power: NonNegative = 0.5  # of how much seldom seen cells are preferred
    sticky: Fraction = 0.9  # probability that exploring repeats the last action
    horizon: int | None = None  # steps of a way at most; None: the environment's time limit
    num_envs: int = 8  # environments that are stepped side by side
    rollout_length: int = 8  # steps of each environment between two looks at the archive

    def check(self) -> None:
        """Positive sizes."""
        sizes = (self.bins, self.num_envs, self.rollout_length, self.horizon or 1)
        require(min(sizes) > 0, "bins, horizon, num_envs and rollout_length must be positive")

    def supports(self, spec: Spec) -> str | None:
        """Discrete actions, observations that make cells, episodes of a known length at most."""
        if not isinstance(spec.action, Discrete):
            return f"GoExplore keeps actions by number, and {spec.action} is not Discrete"
        cells = Cells.of(spec.observation, int(spec.action.n), self.bins)
        if cells is None:
            return (
                "GoExplore needs cells: observations of finite parts, or of Boxes with finite bounds, not "
                f"{brief(spec.observation)}"
            )
        limit = self.horizon or spec.horizon
        if limit is None:
            return "GoExplore needs to know how long episodes are: set horizon to their most steps"
        if cells.megabytes(limit) > MOST:
            return (
                f"GoExplore would keep a way of {limit} steps to each of {cells.count:,} cells: take fewer bins, or "
                "leave parts of the observation out"
            )
        return None

    def init(self, key: Array, spec: Spec) -> State:
        """An archive without any way."""
        assert isinstance(spec.action, Discrete)
        cells, limit = Cells.of(spec.observation, int(spec.action.n), self.bins), self.horizon or spec.horizon
        assert cells is not None
        assert limit is not None
        archive = Archive(nowhere(limit, cells.count), jnp.zeros(cells.count, jnp.int32), jnp.zeros(cells.count, bool))
        walked = nowhere(limit, self.num_envs)._replace(score=jnp.zeros(self.num_envs))
        return State(archive, nowhere(limit), walked, cells)

    def actor(self, state: State) -> Actor:
        """The archive, and the best way of all."""
        return Actor(state.archive, state.best, state.cells)

    def carry(self, actor: Actor, n: int) -> Carry:
        """No way, until an episode begins."""
        zero = jnp.zeros(n, jnp.int32)
        return Carry(nowhere(actor.best.actions.shape[-1], n), zero, zero, zero)

    def look(self, actor: Actor, carry: Carry, now: Timestep, explore: bool) -> tuple[Look, Carry]:
        """What is done after the way, or on it, and how much the best way earns."""
        best = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(carry.step), *x.shape)), actor.best)
        carry = carry._replace(step=jnp.where(now.first, 0, carry.step), way=carry.way if explore else best)
        goes = carry.step < carry.way.length
        n = actor.cells.actions
        legal = jnp.float32(now.info["mask"]) if "mask" in now.info else jnp.ones((len(now.reward), n))
        known = jax.nn.one_hot(next_action(carry), n)
        random = legal / legal.sum(-1, keepdims=True)
        if explore:
            again = jax.nn.one_hot(carry.last, n) * legal
            sticks = self.sticky * again.sum(-1, keepdims=True) * (carry.step > 0)[:, None]
            random = sticks * again + (1 - sticks) * random
        score = jnp.where(jnp.isfinite(actor.best.score), actor.best.score, 0.0)
        value = jnp.full(len(carry.step), score)
        return Look(Categorical(jnp.log(jnp.where(goes[:, None], known, random))), value), carry

    def act(self, actor: Actor, carry: Carry, now: Timestep, key: Array, explore: bool):
        """On the way, its next action; after it a random one, or the last one again."""
        ckey, akey = jax.random.split(key)
        if explore:
            chosen = jax.random.categorical(ckey, self.preference(actor.archive), shape=carry.cell.shape)
            fresh = Carry(jax.tree.map(lambda x: x[chosen], actor.archive.way), chosen, carry.step, carry.last)
            carry = jax.tree.map(
                lambda new, old: jnp.where(now.first.reshape(-1, *(1,) * (old.ndim - 1)), new, old), fresh, carry
            )
        look, carry = self.look(actor, carry, now, explore)
        action = look.pi.sample(akey) if explore else look.pi.mode()
        due = (carry.step == carry.way.length) & (carry.step > 0)
        there = due & (actor.cells.number(now.obs) == carry.cell)
        carry = carry._replace(step=carry.step + 1, last=action)
        return action, carry, {"due": due, "there": there}

    def preference(self, archive: Archive) -> Array:
        """log P(cell), up to a constant, [C]; of cells to which no way is known, or none from there, only where there
        are no others."""
        known = archive.open & jnp.isfinite(archive.way.score)
        return jnp.where(known, -self.power * jnp.log1p(archive.visits), -1e9)

    def learn(self, state: State, rollout: Rollout, key: Array) -> tuple[State, Metrics]:
        """Ways that are new or better go into the archive, step after step and environment after environment."""
        steps = rollout.steps
        cells = jax.vmap(state.cells.number)(steps.next_obs)

        def walk(walked: Way, step: tuple[Transition, Array]):
            done, cell = step
            begun = lambda new, old: jnp.where(done.first.reshape(-1, *(1,) * (old.ndim - 1)), new, old)  # noqa: E731
            actions, score, length = jax.tree.map(lambda x: begun(jnp.zeros_like(x), x), walked)
            actions = actions.at[jnp.arange(self.num_envs), length].set(done.action, mode="drop")
            walked = Way(actions, score + done.reward, length + 1)
            return walked, (walked, cell, ~done.terminated & ~done.truncated)

        walked, found = jax.lax.scan(walk, state.walked, (steps, cells))
        begun = begins(state.archive, state.cells.number(jax.tree.map(flat_rows, steps.obs)), steps.first.ravel())
        (archive, best), news = jax.lax.scan(kept, (begun, state.best), jax.tree.map(flat_rows, found))
        known = jnp.isfinite(archive.way.score).sum()
        due, there = steps.extras["due"].sum(), steps.extras["there"].sum()
        metrics = {
            "cells": jnp.float32(known),
            "new_cells": jnp.float32(news.sum()),
            "best_score": jnp.where(jnp.isfinite(best.score), best.score, 0.0),
            "returned": jnp.where(due > 0, there / jnp.maximum(due, 1), 1.0),
        }
        return state._replace(archive=archive, best=best, walked=walked), metrics

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Settings known to work, by environment."""
        return {"DeepSea": {"steps": 40_000, "sticky": 0.0}, "GridWorld": {"steps": 20_000}}

    @classmethod
    def small(cls) -> dict[str, tuple[Any, str]]:
        """Small instances, each with an environment, that tests run in seconds."""
        return {"": (cls(num_envs=4, rollout_length=6), "DeepSea")}


def nowhere(limit: int, *lead: int) -> Way:
    """Ways that are not known, leaves [*lead, ...]."""
    return Way(jnp.zeros((*lead, limit), jnp.int32), jnp.full(lead, -jnp.inf), jnp.zeros(lead, jnp.int32))


def flat_rows(x: Array) -> Array:
    """[T, E, ...] as [T·E, ...]."""
    return x.reshape((-1, *x.shape[2:]))


def begins(archive: Archive, cell: Array, first: Array) -> Archive:
    """The archive with a way of no steps to the cells [N] in which episodes began, where `first` [N] says so."""
    at = jnp.where(first & ~jnp.isfinite(archive.way.score[cell]), cell, archive.visits.shape[0])
    way = archive.way._replace(score=archive.way.score.at[at].set(0.0, mode="drop"))
    return Archive(way, archive.visits.at[cell].add(first), archive.open.at[at].set(True, mode="drop"))


def next_action(carry: Carry) -> Array:
    """The action of the way at this step, [E]; any where it has ended."""
    last = carry.way.actions.shape[-1] - 1
    return jnp.take_along_axis(carry.way.actions, jnp.minimum(carry.step, last)[:, None], -1)[:, 0]


def better(new: Way, old: Way) -> Array:
    """Whether a way earns more, or as much in fewer steps."""
    return (new.score > old.score) | ((new.score == old.score) & (new.length < old.length))


def kept(carry: tuple[Archive, Way], found: tuple[Way, Array, Array]) -> tuple[tuple[Archive, Way], Array]:
    """The archive and the best way, with the way found to a cell; and whether the cell is new.

    A way of more steps than are kept is not stored.
    """
    (archive, best), (way, cell, goes_on) = carry, found
    old, fits = jax.tree.map(lambda x: x[cell], archive.way), way.length <= way.actions.shape[-1]
    wins = jnp.where(goes_on == archive.open[cell], better(way, old), goes_on) & fits
    fresh = wins & ~jnp.isfinite(old.score)
    at = jnp.where(wins, cell, archive.visits.shape[0])  # out of range: not written
    archive = Archive(
        jax.tree.map(lambda ring, x: ring.at[at].set(x, mode="drop"), archive.way, way),
        archive.visits.at[cell].add(1),
        archive.open.at[at].set(goes_on, mode="drop"),
    )
    first = better(way, best) & fits
    return (archive, jax.tree.map(lambda new, old: jnp.where(first, new, old), way, best)), fresh
