"""Evaluation: whole episodes with the greedy policy, apart from training and from its random keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import require
from thorndike.drivers.scan import axes, step_world, transition
from thorndike.drivers.state import FAULTS, step_faults
from thorndike.envs.batched import Batched, is_jax
from thorndike.envs.host.worker import LIMIT
from thorndike.errors import EnvError
from thorndike.ops.keys import random_key
from thorndike.ops.summary import bootstrap_interval, iqm
from thorndike.types import Array, PyTree, Timestep

LONGEST = 100_000  # steps that an episode may have where its environment has no time limit
APART = 2**20  # added to seeds of environments on the host: other episodes than those of training


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of evaluation episodes, [R, N]: runs (seeds, configurations) by episodes."""

    returns: np.ndarray
    lengths: np.ndarray

    @property
    def mean(self) -> float:
        """Mean return over all runs and episodes."""
        return float(self.returns.mean())

    @property
    def iqm(self) -> float:
        """Interquartile mean over all runs and episodes."""
        return iqm(self.returns)

    @property
    def per_seed(self) -> list[float]:
        """Mean return of each run."""
        return [float(x) for x in self.returns.mean(1)]

    def to_json(self) -> dict[str, Any]:
        """The summary that `thorndike evaluate --json` prints."""
        return {
            "episodes": int(self.returns.shape[1]),
            "mean": self.mean,
            "std": float(self.returns.std()),
            "median": float(np.median(self.returns)),
            "iqm": self.iqm,
            "ci95": list(bootstrap_interval(self.returns)),
            "per_seed": self.per_seed,
        }

    def __str__(self) -> str:
        low, high = bootstrap_interval(self.returns)
        runs, episodes = self.returns.shape
        each = "" if runs == 1 else "; per seed " + ", ".join(f"{x:.1f}" for x in self.per_seed)
        return (
            f"return {self.mean:.1f} ± {self.returns.std():.1f} over {runs} x {episodes} episodes, "
            f"IQM {self.iqm:.1f} [{low:.1f}, {high:.1f}]{each}"
        )


def check_episodes(episodes: Any) -> None:
    """Raise `ConfigError` unless it is a number of episodes."""
    whole = isinstance(episodes, (int, np.integer)) and int(episodes) >= 1
    require(whole, f"episodes must be at least 1, and whole, got {episodes!r}")


def evaluate(
    algorithm: Any, actor: PyTree, env: Any, episodes: int, seed: int = 0, how: dict[str, Any] | None = None
) -> Evaluation:
    """Play `episodes` episodes with each of the actors [R]: the same ones, whoever else is evaluated.

    An environment whose `evaluation` is another one, such as Atari with whole games, is played as that. `how` are
    options of host environments' `batch`: workers, timeout, on_error; episodes that a restart drops do not count.

    Raises:
        EnvError: where an environment shows or gives what is not finite, is outside of its space, or allows no action;
            where it fails, or ten times as many episodes are dropped as are wanted; where one has no end.
    """
    env = getattr(env, "evaluation", env)
    alone = getattr(env, "players", 1) == 1
    require(
        alone, "an agent that plays both sides of a game measures nothing: run.evaluate and run.match find opponents"
    )
    if is_jax(env):
        runs = jax.tree.leaves(actor)[0].shape[0]
        keys = jnp.broadcast_to(random_key(seed), (runs,))
        returns, lengths, wrong = map(np.asarray, _episodes(algorithm, Batched(env, episodes), actor, keys))
        if wrong.any():
            run, i = np.argwhere(wrong)[0]
            raise fault(env, i, wrong[run, i], f", by step {lengths[run, i]} of its episode")
        return Evaluation(returns, lengths)
    return _host(algorithm, actor, env, episodes, seed, how or {})


def fault(env: Any, index: int, kind: int, when: str = "") -> EnvError:
    """What there is to say of a JAX environment with one of `FAULTS`."""
    return EnvError(f"environment {index} ({getattr(env, 'id', type(env).__name__)}) {FAULTS[int(kind)]}{when}")


def check_ends(env: Any, lengths: Any) -> None:
    """Raise `EnvError` where, of episodes under way, one seems to have no end: whole ones would never come."""
    limit = getattr(env, "max_steps", None)
    at = int(np.argmax(lengths))
    if (limit is None or limit >= 2**31 - 1) and lengths[at] >= LONGEST:
        raise EnvError(
            f"environment {at} ({env.id}) has no time limit, and its episode has not ended in {LONGEST:,} steps: put "
            "gymnasium.wrappers.TimeLimit around it, or give its function a max_episode_steps"
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


@jax.jit
def _episodes(algorithm: Any, world: Batched, actor: PyTree, keys: Array) -> tuple[Array, Array, Array]:
    one = jax.vmap(_one_run, in_axes=(axes(algorithm), None, 0, 0))
    return one(algorithm, world, actor, keys)


def _one_run(algorithm: Any, world: Batched, actor: PyTree, key: Array) -> tuple[Array, Array, Array]:
    """Returns and lengths of the first episode of each of `world.num_envs` environments, and its fault, if any, [E].

    All stop with the first fault.
    """
    n = world.num_envs
    reset_key, key = jax.random.split(key)

    def step(state):
        now, carry, key, returns, lengths, over, _ = state
        key, skey = jax.random.split(key)
        now, carry, seen = step_world(algorithm, world, actor, carry, now, skey, "exploit")
        returns = returns + jnp.where(over, 0.0, seen.reward)
        wrong = jnp.where(over, 0, step_faults(world.env, seen))
        return now, carry, key, returns, lengths + ~over, over | seen.ended, wrong

    zero, none = jnp.zeros(n), jnp.zeros(n, jnp.int32)
    start = (world.reset(reset_key), algorithm.carry(n), key, zero, none, zero > 0, none)
    going = lambda state: ~state[-2].all() & ~state[-1].any()  # noqa: E731
    *_, returns, lengths, _, wrong = jax.lax.while_loop(going, step, start)
    return returns, lengths, wrong


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


def _host(algorithm: Any, actors: PyTree, env: Any, episodes: int, seed: int, how: dict[str, Any]) -> Evaluation:
    runs = jax.tree.leaves(actors)[0].shape[0]
    agents, n = getattr(env, "agents", 1), min(episodes, 8)
    quota = np.array([len(range(i, episodes, n)) for i in range(n)])  # the same for all, so that short ones don't win
    returns, lengths = [], []
    for run in range(runs):
        with env.batch(n * agents, seed=seed + APART, **how) as batch:
            actor = jax.tree.map(lambda x, run=run: x[run], actors)
            now, carry, key = batch.reset(), algorithm.carry(n * agents), random_key(seed)
            total, length, lost = np.zeros(n), np.zeros(n, int), 0
            finished: list[list[tuple[float, int]]] = [[] for _ in range(n)]
            while any(len(f) < q for f, q in zip(finished, quota)):
                key, akey = jax.random.split(key)
                action, carry = act(algorithm, actor, carry, now, akey, False)
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
