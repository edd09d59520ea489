"""A rollout of an asynchronous pool: half of the environments are acted on while the others step."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from thorndike.types import PyTree, Rollout, Timestep, Transition


def rollout(act: Any, batch: Any, now: Timestep, carry: PyTree, key: Any, length: int):
    """`length` steps of every environment; its order is that in which the environments are done.

    Args:
        act: (carry, now, key) of [1, n, ...] to (action, carry, extras, key); always called with the same n.
        batch: has `num_envs`, `send(rows, action)` and `receive(count)`.
        now: [1, E, ...], as carry.
        carry: acting memory.
        key: for all of the rollout.
        length: steps of each environment.

    Returns:
        The rollout, leaves [1, T, E, ...]; the next carry and key.
    """
    start, group = carry, -(-batch.num_envs // 2)
    now, memory = jax.tree.map(lambda x: np.array(x[0]), (now, carry))
    done, ready = np.zeros(batch.num_envs, int), np.arange(batch.num_envs)
    before: Any = None  # what was seen and done, [T, E, ...]
    after: Any = None  # what came of it
    while (done < length).any():
        for rows in np.split(ready, range(group, len(ready), group)):
            if len(rows) == 0:
                continue
            some = np.resize(rows, group)  # one shape, one program
            seen = jax.tree.map(lambda x, some=some: x[None, some], (memory, now))
            *taken, key = act(*seen, key)
            here = (0, slice(len(rows)))
            action, later, extras = jax.tree.map(lambda x, here=here: np.asarray(x)[here], tuple(taken))
            batch.send(rows, action)
            acted = jax.tree.map(lambda x, rows=rows: x[rows], (now.obs, now.first)), action, extras
            before = _store(before, acted, (done[rows], rows), (length, batch.num_envs))
            _store(memory, later, rows)
        ready, answer = batch.receive(group)
        outcome = (answer.reward, answer.terminated, answer.truncated, answer.final_obs)
        after = _store(after, outcome, (done[ready], ready), (length, batch.num_envs))
        _store(now, answer, ready)
        done[ready] += 1
        ready = ready[done[ready] < length]
    (obs, first), action, extras = before
    reward, terminated, truncated, final = after
    steps = Transition(obs, first, action, extras, reward, terminated, truncated, final, {})
    steps, now, memory = jax.tree.map(lambda x: x[None], (steps, now, memory))
    return Rollout(steps, start, now), memory, key


def _store(into: Any, values: Any, at: Any, axes: tuple[int, ...] = ()) -> Any:
    """`into` with `values` written `at` its first axes; made with these axes where it is None."""
    if into is None:
        into = jax.tree.map(lambda x: np.empty((*axes, *x.shape[1:]), x.dtype), values)

    def put(x, value):
        x[at] = value

    jax.tree.map(put, into, values)
    return into
