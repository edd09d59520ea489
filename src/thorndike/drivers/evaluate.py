"""Evaluation: whole episodes with the greedy policy, apart from training and from its random keys."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import require
from thorndike.drivers.earned import Earned, earned_in, nothing_earned, so_far
from thorndike.drivers.evaluation import Evaluation
from thorndike.drivers.health import FAULTS, step_faults
from thorndike.drivers.scan import axes, member, step_world, transition
from thorndike.envs.batched import Batched, is_jax
from thorndike.envs.host.worker import LIMIT
from thorndike.errors import EnvError
from thorndike.ops.keys import random_key
from thorndike.types import Array, PyTree, Timestep

log = logging.getLogger("thorndike")

LONGEST = 100_000  # steps that an episode may have where its environment has no time limit
CHUNK_SECONDS = 0.25  # of compiled work, while Python hears no signal
SIDE_BY_SIDE = 8  # environments on the host that play an evaluation's episodes
APART = 2**20  # added to seeds of environments on the host: other episodes than those of training


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
    key = random_key(seed)
    if is_jax(env):
        found = compiled(algorithm, actor, env, episodes, key, explore)
    else:
        found = hosted(algorithm, actor, env, episodes, key, partial(open_batch, env, episodes, seed, how), explore)
    assert found is not None
    return found


def never() -> bool:
    """No signal has come."""
    return False


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
    earned: Earned  # [E] each
    over: Array  # [E]
    wrong: Array  # [E], which of `FAULTS` its environment showed; 0: none

    @property
    def going(self) -> Array:
        """Whether an episode is under way, and none went wrong."""
        return ~self.over.all() & ~self.wrong.any()


def compiled(
    algorithm: Any,
    actor: PyTree,
    env: Any,
    episodes: int,
    key: Array,
    explore: bool = False,
    interrupted: Callable[[], bool] = never,
) -> Evaluation | None:
    """Each of the actors [R] in a JAX environment, from the same key; None where `interrupted` says so.

    In chunks of a moment each, so that Ctrl-C is heard between them; each run stops with its first fault.
    """
    world, runs, n = Batched(env, episodes), jax.tree.leaves(actor)[0].shape[0], 16
    state = _begin(algorithm, world, actor, jnp.broadcast_to(key, (runs,)))
    while not interrupted():
        start = time.monotonic()
        state, wrong, lengths, done = _advance(algorithm, world, actor, state, np.int32(n), explore)
        wrong, lengths = np.asarray(wrong), np.asarray(lengths)
        if wrong.any():
            run, i = np.argwhere(wrong)[0]
            raise fault(env, i, wrong[run, i], f", by step {lengths[run, i]} of its episode")
        if np.all(done):
            earned = {name: np.asarray(x) for name, x in state.earned.all.items()}
            return Evaluation(np.asarray(state.returns), lengths, earned=earned)
        check_ends(env, lengths.max(0))
        if time.monotonic() - start < CHUNK_SECONDS:
            n *= 2
    return None


@jax.jit
def _begin(algorithm: Any, world: Batched, actor: PyTree, keys: Array) -> Playing:
    def one(algorithm: Any, world: Batched, actor: PyTree, key: Array) -> Playing:
        n = world.num_envs
        reset_key, key = jax.random.split(key)
        zero, none, now = jnp.zeros(n), jnp.zeros(n, jnp.int32), world.reset(reset_key)
        carry = algorithm.carry(actor, n)
        step = partial(step_world, algorithm, world, actor, how="exploit")
        info = jax.eval_shape(step, carry=carry, now=now, key=key)[2].info
        return Playing(now, carry, key, zero, none, nothing_earned(info, n), zero > 0, none)

    return jax.vmap(one, in_axes=(axes(algorithm), axes(world), 0, 0))(algorithm, world, actor, keys)


@partial(jax.jit, static_argnames="explore", donate_argnums=3)
def _advance(algorithm: Any, world: Batched, actor: PyTree, state: Playing, n: Array, explore: bool):
    """At most n steps later; with it what it says of faults, lengths and whether all is over, [R, ...]."""
    how = "explore" if explore else "exploit"

    def step(algorithm: Any, world: Batched, actor: PyTree, state: Playing) -> Playing:
        now, carry, key, returns, lengths, earned, over, _ = state
        key, skey = jax.random.split(key)
        now, carry, seen = step_world(algorithm, world, actor, carry, now, skey, how)
        returns = returns + jnp.where(over, 0.0, seen.reward)
        wrong = jnp.where(over, 0, step_faults(world.env, seen))
        earned = so_far(earned, earned_in(seen.info, lead=1), over)
        return Playing(now, carry, key, returns, lengths + ~over, earned, over | seen.ended, wrong)

    def one(algorithm: Any, world: Batched, actor: PyTree, state: Playing) -> Playing:
        going = lambda carry: (carry[0] < n) & carry[1].going  # noqa: E731
        return jax.lax.while_loop(going, lambda c: (c[0] + 1, step(algorithm, world, actor, c[1])), (0, state))[1]

    state = jax.vmap(one, in_axes=(axes(algorithm), axes(world), 0, 0))(algorithm, world, actor, state)
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
def act_alone(algorithm: Any, actor: PyTree, carry: PyTree, obs: PyTree, first: Array, info: Any, key: Array, explore):
    """`act` outside of a driver, on observations [E, ...] alone, and the next key: one program, as each call costs."""
    n = first.shape[0]
    no, none = jnp.zeros(n, bool), jnp.zeros(n, jnp.float32)
    later, key = jax.random.split(key)
    action, carry, _ = algorithm.act(actor, carry, Timestep(obs, none, no, no, obs, first, info), key, explore)
    return action, carry, later


@partial(jax.jit, static_argnames="explore")
def look(algorithm: Any, actor: PyTree, carry: PyTree, now: Timestep, explore: bool) -> dict[str, Array]:
    """`algorithm.look`, compiled, as named arrays [E, ...]; what the algorithm does not know is not there."""
    found, _ = algorithm.look(actor, carry, now, explore)
    told = {"value": found.value, "q": found.q}
    if found.pi != ():
        told |= found.pi.told()
    if found.returns != ():
        told |= dict(zip(("returns", "return_probabilities"), found.returns))
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


def open_batch(env: Any, episodes: int, seed: int, how: dict[str, Any] | None = None, least: int = 1) -> Any:
    """Up to `SIDE_BY_SIDE` environments on the host, but no fewer than `least`, in which to play so many episodes."""
    return side_by_side(env, max(min(episodes, SIDE_BY_SIDE), least), seed, how or {})


def hosted(
    algorithm: Any,
    actors: PyTree,
    env: Any,
    episodes: int,
    key: Array,
    batches: Callable[[], AbstractContextManager],
    explore: bool = False,
    interrupted: Callable[[], bool] = never,
) -> Evaluation | None:
    """Each of the actors [R] on the host, one after the other, each in what `batches` gives; None where `interrupted`
    says so."""
    found = []
    for run in range(jax.tree.leaves(actors)[0].shape[0]):
        one, actor = member(algorithm, run), jax.tree.map(lambda x, run=run: x[run], actors)
        with batches() as batch:
            played = _play(one, actor, env, batch, episodes, key, explore, interrupted)
        if played is None:
            return None
        found.append(played)
    returns, lengths = (np.array([[one[i] for one in played] for played in found]) for i in (0, 1))
    earned = {name: np.array([[one[2][name] for one in played] for played in found]) for name in found[0][0][2]}
    return Evaluation(returns, lengths, earned=earned)


def _play(
    algorithm: Any,
    actor: PyTree,
    env: Any,
    batch: Any,
    episodes: int,
    key: Array,
    explore: bool,
    interrupted: Callable[[], bool],
) -> list[tuple[float, int, dict[str, float]]] | None:
    """Return and length of each episode, and what it earned besides; every environment gives the same number, or one
    more, so that short ones don't win."""
    agents = getattr(env, "agents", 1)
    n = batch.num_envs // agents
    quota = np.array([len(range(i, episodes, n)) for i in range(n)])
    now, carry = batch.reset(), algorithm.carry(actor, n * agents)
    total, length, lost = np.zeros(n), np.zeros(n, int), 0
    finished: list[list[tuple[float, int, dict[str, float]]]] = [[] for _ in range(n)]
    sums: dict[str, np.ndarray] = {}
    while any(len(f) < q for f, q in zip(finished, quota)):
        if interrupted():
            return None
        key, akey = jax.random.split(key)
        action, carry = act(algorithm, actor, carry, now, akey, explore)
        now = batch.step(np.asarray(action))
        total, length = total + now.reward.reshape((n, agents)).mean(1), length + 1
        seen = jax.device_get(earned_in(now.earned, lead=1))
        sums = {name: sums.get(name, 0.0) + x for name, x in seen.sums.items()}
        dropped = batch.dropped[::agents]
        for i in np.flatnonzero((now.terminated | now.truncated)[::agents]):
            if not dropped[i]:
                earned = {name: float(x[i]) for name, x in {**sums, **seen.lasts}.items()}
                finished[i].append((float(total[i]), int(length[i]), earned))
            total[i], length[i] = 0.0, 0
            sums = {name: np.where(np.arange(n) == i, 0.0, x) for name, x in sums.items()}
        lost = too_many(lost + dropped.sum(), episodes, batch.last_fault)
        check_ends(env, length)
    return [pair for f, q in zip(finished, quota) for pair in f[:q]]
