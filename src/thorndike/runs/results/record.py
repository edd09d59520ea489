"""Episodes of an agent, step by step, for a dataset."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from thorndike.drivers.evaluate import (
    SIDE_BY_SIDE,
    act,
    check_ends,
    check_episodes,
    side_by_side,
    too_many,
    watched,
)
from thorndike.envs.batched import Batched, is_jax, to_environment
from thorndike.memory.dataset import Episode
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent


def record(
    agent: Agent,
    env: Any,
    episodes: int,
    seed: int = 0,
    explore: bool = False,
    how: Any = None,
    together: int = SIDE_BY_SIDE,
) -> list[Episode]:
    """Whole episodes; every environment gives the same number, or one more, so that short ones don't win.

    `how` are options of host environments' `batch`; episodes that a restart drops are not among them. At most
    `together` are played side by side.

    Raises:
        EnvError: as in `evaluate`.
    """
    check_episodes(episodes)
    env, n = getattr(env, "evaluation", env), min(episodes, together)
    quotas = lambda n: [len(range(i, episodes, n)) for i in range(n)]  # noqa: E731
    if is_jax(env):
        world, key = Batched(env, n), random_key(seed)
        return _record(agent, env, jax.jit(world.reset)(key), watched(world), quotas(n), seed, explore)
    agents = getattr(env, "agents", 1)  # each of whom gives episodes of its own
    with side_by_side(env, -(-n // agents), seed, how or {}) as batch:
        quota = quotas(batch.num_envs)
        hosted = lambda now, action, key: batch.step(np.asarray(action))  # noqa: E731
        return _record(agent, env, batch.reset(), hosted, quota, seed, explore, batch)


def _record(
    agent: Agent, env: Any, now: Any, step: Any, quota: list[int], seed: int, explore: bool, batch: Any = None
) -> list[Episode]:
    carry, key, lost = agent.algorithm.carry(agent.actor, len(quota)), random_key(seed + 1), 0
    running: list[list[Any]] = [[] for _ in quota]
    found: list[list[Episode]] = [[] for _ in quota]
    while any(len(f) < q for f, q in zip(found, quota)):
        key, akey, skey = jax.random.split(key, 3)
        action, carry = act(agent.algorithm, agent.actor, carry, now, akey, explore)
        later = step(now, action, skey)
        taken = to_environment(agent.spec.action, np.asarray(action))
        before = (now.obs, now.info.get("mask"))  # None where all actions are legal
        after = (later.final_obs, later.info.get("final_mask"))
        dropped = np.zeros(len(quota), bool) if batch is None else batch.dropped
        lost = too_many(lost + dropped.sum(), sum(quota), "" if batch is None else batch.last_fault)
        seen = jax.device_get((before, later.reward, later.terminated, later.truncated, after))
        for i, steps in enumerate(running):
            shown, *outcome, final = jax.tree.map(lambda x, i=i: np.array(x[i]), seen)  # a copy: buffers are reused
            steps.append((shown, np.array(taken[i]), *outcome))
            if dropped[i]:
                steps.clear()
            elif outcome[1] or outcome[2]:
                shown, *columns = (jax.tree.map(lambda *xs: np.stack(xs), *parts) for parts in zip(*steps))
                observations, masks = jax.tree.map(lambda xs, x: np.concatenate([xs, x[None]]), shown, final)
                found[i].append(Episode(observations, *columns)._replace(masks=masks))
                steps.clear()
        check_ends(env, [len(steps) for steps in running])
        now = later
    return [episode for f, q in zip(found, quota) for episode in f[:q]]
