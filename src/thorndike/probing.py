"""What a few random steps say of an environment: whether actions matter, to what, and whether rewards are met at all.

Plays are compared that share their chance (the seed of the environments) and differ in their actions. Where chance is
drawn in an order that depends on actions, as on some hosts, actions seem to matter: a fact is claimed only where it was
seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from thorndike.algorithms.tabular.numbering import Numbering
from thorndike.drivers.learner import random_action
from thorndike.envs.batched import Batched, is_jax
from thorndike.nets.cnn import is_image
from thorndike.nets.torso import leaves
from thorndike.ops.keys import random_key
from thorndike.types import Array, PyTree, Spec, Timestep

STEPS, COPIES = 300, 8  # of a play in JAX
HOST_STEPS = 200  # of a play on the host, with one copy, or one world of several agents
CONSTANTS = 32  # actions that are tried as constant ones, at most


class Play(NamedTuple):
    """What was seen, [T, E, ...]; `obs` is the true successor, and `first` what the first episode began with."""

    obs: PyTree
    reward: np.ndarray
    ended: np.ndarray
    terminated: np.ndarray
    first: PyTree


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of an environment before anything is learned."""

    action: str  # "discrete", "box" or "other"
    states: int | None  # how many observations there are; None where they cannot be counted
    actions: int | None
    image: bool  # some part of the observation is one
    compiled: bool  # it is a JAX environment
    model: bool  # its transition probabilities are known
    goals: bool  # rewards can be computed for other goals
    masked: bool  # it says which actions are legal
    players: int
    one_step: bool  # every episode ended with its first step
    leads: bool  # what comes next depends on the action
    pays: bool  # the reward does
    constant: int | None  # the action that pays most in every step that was seen, where nothing else depends on it
    silent: bool  # no reward differed from all others in random play
    repeats: bool  # another seed gives the same episode where the actions are the same


def probe(env: Any, spec: Spec) -> Facts:
    """Play, and compare."""
    rows, columns = Numbering.of(spec.observation), Numbering.of(spec.action)
    kind = "discrete" if isinstance(spec.action, Discrete) else "box" if isinstance(spec.action, Box) else "other"
    play = _compiled(env) if is_jax(env) else partial(_hosted, env)
    a, b, other = play(0, 0), play(0, 1), play(1, 0)
    leads = not (_same(a.obs, b.obs) and np.array_equal(a.ended, b.ended))
    rewards = np.concatenate([a.reward.ravel(), b.reward.ravel()])
    one_step = bool(a.ended.all() and b.ended.all())
    constant = None
    if (one_step or not leads) and kind == "discrete" and spec.action.n <= CONSTANTS:
        constant = _best_of([play(0, 0, action).reward for action in range(int(spec.action.n))])
    return Facts(
        action=kind,
        states=rows.count if rows else None,
        actions=columns.count if columns else None,
        image=any(is_image(leaf) for leaf in leaves(spec.observation)),
        compiled=is_jax(env),
        model=hasattr(env, "transitions"),
        goals=spec.goal is not None,
        masked=spec.masked,
        players=spec.players,
        one_step=one_step,
        leads=leads and not one_step,
        pays=not np.array_equal(a.reward, b.reward),
        constant=constant,
        silent=_silent(rewards, np.concatenate([a.terminated.ravel(), b.terminated.ravel()])),
        repeats=_same((a.first, a.obs), (other.first, other.obs)) and np.array_equal(a.reward, other.reward),
    )


def _silent(rewards: np.ndarray, terminated: np.ndarray) -> bool:
    """All rewards were alike, and no episode ended by what was done: random play has learned nothing of the task."""
    return bool((rewards == rewards[0]).all() and not terminated.any())


def _best_of(rewards: list[np.ndarray]) -> int | None:
    """The action whose rewards [T, E] are the highest at every step, where there is one; ties go to the first."""
    table = np.stack(rewards)
    best = (table >= table.max(0)).reshape(len(table), -1).all(1)
    return int(best.argmax()) if best.any() and not best.all() else None


def _compiled(env: Any) -> Callable[..., Play]:
    """Plays of a JAX environment, by one program."""
    world = Batched(env, COPIES)

    @jax.jit
    def played(chance: Array, choice: Array, constant: Array) -> Play:
        def step(now: Timestep, keys: tuple[Array, Array]):
            drawn = random_action(env.action_space, now, keys[1])
            action = jnp.where(constant < 0, drawn, constant.astype(drawn.dtype))
            later = world.step(now, action, keys[0])
            ended = later.terminated | later.truncated
            return later._replace(earned={}), (later.final_obs, later.reward, ended, later.terminated)

        start = world.reset(chance)
        keys = jax.random.split(chance, STEPS), jax.random.split(choice, STEPS)
        obs, reward, ended, terminated = jax.lax.scan(step, start, keys)[1]
        return Play(obs, reward, ended, terminated, start.obs)

    return lambda seed, choice, constant=-1: jax.device_get(
        played(random_key(seed), random_key(choice), jnp.int32(constant))
    )


def _hosted(env: Any, seed: int, choice: int, constant: int = -1) -> Play:
    """A play of an environment on the host, in this thread."""
    found = []
    with env.batch(getattr(env, "agents", 1), seed=seed, workers="serial") as batch:
        now = batch.reset()
        first = jax.tree.map(np.array, now.obs)
        for key in jax.random.split(random_key(choice), HOST_STEPS):
            action = np.asarray(random_action(env.action_space, now, key))
            now = batch.step(action if constant < 0 else np.full_like(action, constant))
            ended = now.terminated | now.truncated
            found.append(jax.tree.map(np.array, (now.final_obs, now.reward, ended, now.terminated)))
    obs, reward, ended, terminated = jax.tree.map(lambda *x: np.stack(x), *found)
    return Play(obs, reward, ended, terminated, first)


def _same(a: PyTree, b: PyTree) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
