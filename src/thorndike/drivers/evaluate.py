"""Evaluation: whole episodes with the greedy policy, apart from training and from its random keys."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import require
from thorndike.drivers.health import FAULTS, step_faults
from thorndike.drivers.scan import axes, member, step_world, transition
from thorndike.envs.batched import Batched, is_jax
from thorndike.envs.host.worker import LIMIT
from thorndike.errors import EnvError
from thorndike.ops.keys import random_key
from thorndike.ops.summary import bootstrap_interval, iqm
from thorndike.types import Array, PyTree, Timestep

log = logging.getLogger("thorndike")

LONGEST = 100_000  # steps that an episode may have where its environment has no time limit
CHUNK_SECONDS = 0.25  # of compiled work, while Python hears no signal
SIDE_BY_SIDE = 8  # environments on the host that play an evaluation's episodes
APART = 2**20  # added to seeds of environments on the host: other episodes than those of training


@dataclasses.dataclass(frozen=True, repr=False)
class Evaluation:
    """Returns and lengths of evaluation episodes, [R, N]: runs (seeds, configurations) by episodes.

    Runs that have diverged have returns of NaN; summaries are over the others.
    """

    returns: np.ndarray
    lengths: np.ndarray
    members: tuple[dict[str, Any], ...] = ()  # seed and swept hyperparameters of each run

    def among(self, index: np.ndarray, members: list[dict[str, Any]]) -> Evaluation:
        """As one of all `members` of a training, of whom only those at `index` were evaluated."""
        shape = len(members), *self.returns.shape[1:]
        returns, lengths = np.full(shape, np.nan), np.zeros(shape, int)
        returns[index], lengths[index] = self.returns, self.lengths
        return Evaluation(returns, lengths, tuple(members))

    @property
    def played(self) -> np.ndarray:
        """The returns of the runs that have not diverged."""
        return self.returns[~np.isnan(self.returns).any(1)]

    @property
    def mean(self) -> float:
        """Mean return over all runs and episodes."""
        return float(self.played.mean())

    @property
    def iqm(self) -> float:
        """Interquartile mean over all runs and episodes."""
        return iqm(self.played)

    @property
    def per_run(self) -> list[float]:
        """Mean return of each run; NaN where it has diverged."""
        return [float(x) for x in self.returns.mean(1)]

    def by_configuration(self) -> list[tuple[dict[str, Any], Evaluation]]:
        """The swept hyperparameters of each configuration of a sweep, with the evaluation of its seeds."""
        groups: dict[str, list[int]] = {}
        for i, one in enumerate(self.members):
            groups.setdefault(str({k: v for k, v in one.items() if k != "seed"}), []).append(i)
        return [
            (
                {k: v for k, v in self.members[rows[0]].items() if k != "seed"},
                Evaluation(self.returns[rows], self.lengths[rows], tuple(self.members[i] for i in rows)),
            )
            for rows in groups.values()
        ]

    def to_json(self) -> dict[str, Any]:
        """The summary that `thorndike evaluate --json` prints."""
        each = [None if np.isnan(x) else x for x in self.per_run]
        known = len(self.played) > 0
        summary = {
            "mean": self.mean,
            "std": float(self.played.std()),
            "median": float(np.median(self.played)),
            "iqm": self.iqm,
            "ci95": list(bootstrap_interval(self.played)),
        }
        members = {"members": [dict(one) for one in self.members]} if self.members else {}
        return {"episodes": int(self.returns.shape[1]), **(summary if known else {}), "per_run": each, **members}

    def __str__(self) -> str:
        groups = self.by_configuration() if len({len(one) for one in self.members} - {1}) else []
        if len(groups) > 1:
            lines = [f"{', '.join(f'{k} {v:g}' for k, v in fields.items())}: {found}" for fields, found in groups]
            return "\n".join(lines)
        runs, episodes = self.returns.shape
        lost = runs - len(self.played)
        if lost == runs:
            return "diverged" if runs == 1 else f"all {runs} runs diverged"
        low, high = bootstrap_interval(self.played)
        each = "" if runs == 1 else "; per seed " + ", ".join(f"{x:.1f}" for x in self.per_run)
        return (
            f"return {self.mean:.1f} ± {self.played.std():.1f} over {runs - lost} x {episodes} episodes, "
            f"IQM {self.iqm:.1f} [{low:.1f}, {high:.1f}]{each}{f'; {lost} diverged' * (lost > 0)}"
        )

    __repr__ = __str__


def check_episodes(episodes: Any) -> None:
    """Raise `ConfigError` unless it is a number of episodes."""
    whole = isinstance(episodes, (int, np.integer)) and int(episodes) >= 1
    require(whole, f"episodes must be at least 1, and whole, got {episodes!r}")


def evaluate(
    algorithm: Any,
    actor: PyTree,
    env: Any,
    episodes: int,
    seed: int = 0,
    how: dict[str, Any] | None = None,
    explore: bool = False,
) -> Evaluation:
    """Play `episodes` episodes with each of the actors [R]: the same ones, whoever else is evaluated.

    An environment whose `evaluation` is another one, such as Atari with whole games, is played as that. `how` are
    options of host environments' `batch`: workers, timeout, on_error; episodes that a restart drops do not count. With
    `explore` the agents act as they do in training.

    Raises:
        EnvError: where an environment shows or gives what is not finite, or allows no action; where it fails, or ten
            times as many episodes are dropped as are wanted; where one has no end.
    """
    env = getattr(env, "evaluation", env)
    alone = getattr(env, "players", 1) == 1
    require(
        alone, "an agent that plays both sides of a game measures nothing: run.evaluate and run.match find opponents"
    )
    if is_jax(env):
        return _compiled(algorithm, actor, env, episodes, seed, explore)
    return _host(algorithm, actor, env, episodes, seed, how or {}, explore)


def fault(env: Any, index: int, kind: int, when: str = "") -> EnvError:
    """What there is to say of a JAX environment with one of `FAULTS`."""
    return EnvError(f"environment {index} ({getattr(env, 'id', type(env).__name__)}) {FAULTS[int(kind)]}{when}")


def check_ends(env: Any, lengths: Any) -> None:
    """Raise `EnvError` where, of episodes under way, one seems to have no end: whole ones would never come."""
    limit = getattr(env, "max_steps", None)
    at = int(np.argmax(lengths))
    if (limit is None or limit >= 2**31 - 1) and lengths[at] >= LONGEST:
        name = getattr(env, "id", type(env).__name__)
        put = "give it max_steps" if is_jax(env) else "put gymnasium.wrappers.TimeLimit around it"
        raise EnvError(
            f"environment {at} ({name}) has no time limit, and its episode has not ended in {LONGEST:,} steps: {put}"
        )


def watched(world: Batched) -> Callable[[Timestep, Array, Array], Timestep]:
    """`world.step`, compiled, which raises `EnvError` where an environment is at fault."""

    @jax.jit
    def look(now, action, key):
        later = world.step(now, action, key)
        return later, step_faults(world.env, transition(now, action, {}, later))

    def step(now, action, key):
        later, wrong = look(now, action, key)
        if np.any(wrong):
            i = np.flatnonzero(wrong)[0]
            raise fault(world.env, i, wrong[i])
        return later

    return step


class Playing(NamedTuple):
    """The first episode of each of E copies of an environment, under way; leading axis [R]."""

    now: Timestep
    carry: PyTree
    key: Array
    returns: Array  # [E]
    lengths: Array  # [E]
    over: Array  # [E]
    wrong: Array  # [E], which of `FAULTS` its environment showed; 0: none

    @property
    def going(self) -> Array:
        """Whether an episode is under way, and none went wrong."""
        return ~self.over.all() & ~self.wrong.any()


def _compiled(algorithm: Any, actor: PyTree, env: Any, episodes: int, seed: int, explore: bool) -> Evaluation:
    """In chunks of a moment each, so that Ctrl-C is heard between them; each run stops with its first fault."""
    world, runs, n = Batched(env, episodes), jax.tree.leaves(actor)[0].shape[0], 16
    state = _begin(algorithm, world, actor, jnp.broadcast_to(random_key(seed), (runs,)))
    while True:
        start = time.monotonic()
        state, wrong, lengths, done = _advance(algorithm, world, actor, state, np.int32(n), explore)
        wrong, lengths = np.asarray(wrong), np.asarray(lengths)
        if wrong.any():
            run, i = np.argwhere(wrong)[0]
            raise fault(env, i, wrong[run, i], f", by step {lengths[run, i]} of its episode")
        if np.all(done):
            return Evaluation(np.asarray(state.returns), lengths)
        check_ends(env, lengths.max(0))
        if time.monotonic() - start < CHUNK_SECONDS:
            n *= 2


@jax.jit
def _begin(algorithm: Any, world: Batched, actor: PyTree, keys: Array) -> Playing:
    def one(algorithm: Any, actor: PyTree, key: Array) -> Playing:
        n = world.num_envs
        reset_key, key = jax.random.split(key)
        zero, none = jnp.zeros(n), jnp.zeros(n, jnp.int32)
        return Playing(world.reset(reset_key), algorithm.carry(actor, n), key, zero, none, zero > 0, none)

    return jax.vmap(one, in_axes=(axes(algorithm), 0, 0))(algorithm, actor, keys)


@partial(jax.jit, static_argnames="explore", donate_argnums=3)
def _advance(algorithm: Any, world: Batched, actor: PyTree, state: Playing, n: Array, explore: bool):
    """At most n steps later; with it what it says of faults, lengths and whether all is over, [R, ...]."""
    how = "explore" if explore else "exploit"

    def step(algorithm: Any, actor: PyTree, state: Playing) -> Playing:
        now, carry, key, returns, lengths, over, _ = state
        key, skey = jax.random.split(key)
        now, carry, seen = step_world(algorithm, world, actor, carry, now, skey, how)
        returns = returns + jnp.where(over, 0.0, seen.reward)
        wrong = jnp.where(over, 0, step_faults(world.env, seen))
        return Playing(now, carry, key, returns, lengths + ~over, over | seen.ended, wrong)

    def one(algorithm: Any, actor: PyTree, state: Playing) -> Playing:
        going = lambda carry: (carry[0] < n) & carry[1].going  # noqa: E731
        return jax.lax.while_loop(going, lambda c: (c[0] + 1, step(algorithm, actor, c[1])), (0, state))[1]

    state = jax.vmap(one, in_axes=(axes(algorithm), 0, 0))(algorithm, actor, state)
    return state, state.wrong, state.lengths, ~jax.vmap(lambda s: s.going)(state)


def too_many(dropped: int, episodes: int, fault: str) -> int:
    """How many episodes were dropped after faults; raises `EnvError` where whole ones seem not to come."""
    if dropped > LIMIT * episodes:
        raise EnvError(f"{dropped} episodes were dropped, where {episodes} were wanted: {fault.splitlines()[0]}")
    return dropped


@partial(jax.jit, static_argnames="explore")
def act(algorithm: Any, actor: PyTree, carry: PyTree, now: Timestep, key: Array, explore: bool):
    """`algorithm.act`, compiled."""
    action, carry, _ = algorithm.act(actor, carry, now, key, explore)
    return action, carry


@partial(jax.jit, static_argnames="explore")
def look(algorithm: Any, actor: PyTree, carry: PyTree, now: Timestep, explore: bool) -> dict[str, Array]:
    """`algorithm.look`, compiled, as named arrays [E, ...]; what the algorithm does not know is not there."""
    found, _ = algorithm.look(actor, carry, now, explore)
    told = {"value": found.value, "q": found.q}
    if found.pi != ():
        told |= found.pi.told()
    return {name: x for name, x in told.items() if not (isinstance(x, tuple) and not x)}


def side_by_side(env: Any, n: int, seed: int, how: dict[str, Any]) -> Any:
    """A batch of `n` copies of an environment on the host, or of one where there cannot be more: a robot, a port.

    With `agents` it has a row for each agent of each copy. Raises `EnvError`.
    """
    agents, n = getattr(env, "agents", 1), n if getattr(env, "copyable", True) else 1
    try:
        return env.batch(n * agents, seed=seed + APART, **how)
    except EnvError as error:
        if n == 1:
            raise
        try:
            batch = env.batch(agents, seed=seed + APART, **how)
        except EnvError:
            raise error from None
        log.warning("episodes are played one after the other, as there can be no %s at once: %s", n, _first_line(error))
        return batch


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _host(
    algorithm: Any, actors: PyTree, env: Any, episodes: int, seed: int, how: dict[str, Any], explore: bool
) -> Evaluation:
    """One run after the other in the same environments, which begin anew for each: all play the same episodes."""
    runs = jax.tree.leaves(actors)[0].shape[0]
    agents, n = getattr(env, "agents", 1), min(episodes, SIDE_BY_SIDE)
    returns, lengths = [], []
    for run in range(runs):
        with side_by_side(env, n, seed, how) as batch:
            n = batch.num_envs // agents
            quota = np.array([len(range(i, episodes, n)) for i in range(n)])  # equal, so that short ones don't win
            one, actor = member(algorithm, run), jax.tree.map(lambda x, run=run: x[run], actors)
            now, carry, key = batch.reset(), algorithm.carry(actor, n * agents), random_key(seed)
            total, length, lost = np.zeros(n), np.zeros(n, int), 0
            finished: list[list[tuple[float, int]]] = [[] for _ in range(n)]
            while any(len(f) < q for f, q in zip(finished, quota)):
                key, akey = jax.random.split(key)
                action, carry = act(one, actor, carry, now, akey, explore)
                now = batch.step(np.asarray(action))
                total, length = total + now.reward.reshape((n, agents)).mean(1), length + 1
                dropped = batch.dropped[::agents]
                for i in np.flatnonzero((now.terminated | now.truncated)[::agents]):
                    if not dropped[i]:
                        finished[i].append((total[i], length[i]))
                    total[i], length[i] = 0.0, 0
                lost = too_many(lost + dropped.sum(), episodes, batch.last_fault)
                check_ends(env, length)
            done = [pair for f, q in zip(finished, quota) for pair in f[:q]]
            returns.append([pair[0] for pair in done])
            lengths.append([pair[1] for pair in done])
    return Evaluation(np.array(returns), np.array(lengths))
