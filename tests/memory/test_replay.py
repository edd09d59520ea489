"""The ring against a deque; sampling against the uniform distribution over what is filled."""

from __future__ import annotations

import dataclasses
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.memory.replay import Uniform
from thorndike.memory.ring import Memory
from thorndike.memory.sequences import Sequences
from thorndike.types import Rollout, Transition

T, E = 2, 3
ROWS = T * E
RING = Uniform(capacity=20, batch_size=20_000, warmup=5)  # 24 rows: the next multiple of 6


def experience(step) -> Rollout:
    """Rollout number `step` [T, E, ...]; every leaf tells which transition it belongs to."""
    i = step * ROWS + jnp.arange(ROWS).reshape(T, E)
    flag = i % 3 == 0
    steps = Transition(
        obs={
            "place": jnp.stack([i, -i], -1).astype(jnp.float32),
            "picture": (i % 251).astype(jnp.uint8)[..., None, None],
        },
        first=flag,
        action=(i % 7).astype(jnp.int8),
        extras={"log_prob": jnp.zeros((T, E, 100))},
        reward=i.astype(jnp.float32),
        terminated=flag,
        truncated=~flag,
        next_obs={"place": jnp.stack([i + 0.5, -i], -1), "picture": (i % 241).astype(jnp.uint8)[..., None, None]},
        info={"next_mask": jnp.stack([flag, ~flag], -1)},
    )
    return Rollout(steps, i[0], ())  # type: ignore[arg-type]


def names(rows: Transition) -> list[int]:
    """Which transitions these are, after checking that each is whole."""
    rows = jax.tree.map(np.asarray, rows)
    i = rows.reward.astype(int)
    np.testing.assert_array_equal(rows.obs["place"], np.stack([i, -i], -1))
    np.testing.assert_array_equal(rows.next_obs["place"], np.stack([i + 0.5, -i], -1))
    np.testing.assert_array_equal(rows.obs["picture"][:, 0, 0], i % 251)
    np.testing.assert_array_equal(rows.next_obs["picture"][:, 0, 0], i % 241)
    np.testing.assert_array_equal(rows.action, i % 7)
    np.testing.assert_array_equal(rows.terminated, i % 3 == 0)
    np.testing.assert_array_equal(rows.info["next_mask"], np.stack([i % 3 == 0, i % 3 != 0], -1))
    return i.tolist()


def changed(rollout: Rollout, **fields) -> Rollout:
    """With some of the steps' fields made anew from them."""
    return rollout._replace(steps=rollout.steps._replace(**{n: f(rollout.steps) for n, f in fields.items()}))


def fill(add, steps: int) -> list[Memory]:
    """The memory after each of `steps` rollouts."""
    memory, history = RING.init(jax.eval_shape(experience, 0)), []
    step = jax.jit(lambda memory, i: add(RING, memory, experience(i)))
    for i in range(steps):
        memory = step(memory, jnp.int32(i))
        history.append(memory)
    return history


def check_ring(add) -> None:
    expected: deque[int] = deque(maxlen=24)
    for step, memory in enumerate(fill(add, 23)):
        expected.extend(range(step * ROWS, (step + 1) * ROWS))
        size, cursor = int(memory.size), int(memory.cursor)
        assert size == len(expected)
        assert jax.tree.leaves(memory.data)[0].shape[0] == 24
        rows = names(jax.tree.map(lambda x, n=size: x[:n], memory.data))
        assert (rows if size < 24 else rows[cursor:] + rows[:cursor]) == list(expected)  # the oldest is at the cursor


def test_ring_is_a_deque():
    check_ring(Uniform.add)


def test_ring_keeps_dtypes_and_drops_what_updates_do_not_read():
    memory = fill(Uniform.add, 1)[0]
    assert memory.data.obs["picture"].dtype == jnp.uint8
    assert memory.data.action.dtype == jnp.int8
    assert memory.data.terminated.dtype == bool
    assert jax.tree.leaves((memory.data.first, memory.data.truncated)) == []


def check_sampling(sample) -> None:
    history = fill(Uniform.add, 9)
    draw = jax.jit(sample)
    for memory in (history[0], history[2], history[8]):  # 6 rows, 18 of 24, full and wrapped
        stored = names(jax.tree.map(lambda x, n=int(memory.size): x[:n], memory.data))
        counts = np.bincount(names(draw(memory, jax.random.key(4))), minlength=200)
        assert counts.sum() == 20_000
        assert set(np.flatnonzero(counts)) == set(stored)
        assert scipy.stats.chisquare(counts[stored]).pvalue > 1e-3
    batches = [names(draw(history[2], jax.random.key(seed))) for seed in (0, 0, 1)]
    assert batches[0] == batches[1] != batches[2]


def test_sampling_is_uniform_over_the_filled_rows():
    check_sampling(RING.sample)


@pytest.mark.parametrize(("capacity", "rows"), [(1, 6), (6, 6), (7, 12), (20, 24), (24, 24)])
def test_capacity_is_rounded_up_to_whole_rollouts(capacity, rows):
    memory = jax.eval_shape(Uniform(capacity=capacity, warmup=1).init, jax.eval_shape(experience, 0))
    assert {x.shape[0] for x in jax.tree.leaves(memory.data)} == {rows}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Uniform(capacity=0), "capacity"),
        (Uniform(batch_size=0), "batch_size"),
        (Uniform(warmup=0), "warmup"),
        (Uniform(capacity=10, warmup=11), r"warmup must lie between 1 and capacity \(10\), got 11"),
        (Uniform(capacity=1e6), "Uniform.capacity should be int"),
        (Uniform(batch_size="64"), "Uniform.batch_size should be int"),
    ],
)
def test_check(bad, message):
    with pytest.raises(ConfigError, match=message):
        check(bad)
    check(Uniform(capacity=10, warmup=10))


SEQUENCES = Sequences(capacity=20, batch_size=4_000, warmup=5)  # 10 sequences of 2 steps, rounded up to 12


def lived(step):
    """Experience whose steps name the carries that they begin with as they name themselves."""
    rollout = experience(step)
    return rollout._replace(steps=rollout.steps._replace(extras={"carry": rollout.steps.reward}))


def check_sequences(add, burn_in=0):
    """Each row is one environment's steps in order behind those before it, with its own carry; the oldest make room."""
    replay, length = dataclasses.replace(SEQUENCES, burn_in=burn_in), burn_in + T
    memory = replay.init(jax.eval_shape(lived, 0))
    for step in range(6):
        memory = add(replay, memory, lived(step))
    assert int(memory.ring.size) == 12
    batch = jax.jit(replay.sample)(memory, jax.random.key(0))
    assert batch.steps.reward.shape == (length, 4_000)
    assert batch.steps.obs["place"].shape == (length, 4_000, 2)
    start = np.asarray(batch.steps.reward[0]).astype(int)
    assert set(start) == {step * ROWS + e - burn_in * E for step in range(2, 6) for e in range(E)}
    for t in range(length):
        row = jax.tree.map(lambda x, t=t: x[t], batch.steps)
        np.testing.assert_array_equal(names(row), start + t * E)
        np.testing.assert_array_equal(row.first, (start + t * E) % 3 == 0)
    np.testing.assert_array_equal(batch.carry, start)
    counts = np.bincount(start)[sorted(set(start))]
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("burn_in", [0, 1, 2, 3])
def test_sequences(burn_in):
    """A burn-in shorter than a rollout, as long, and longer: every step is once behind it."""
    check_sequences(Sequences.add, burn_in)


def test_before_the_first_sequence_stands_its_first_step():
    replay = dataclasses.replace(SEQUENCES, burn_in=3)
    memory = replay.add(replay.init(jax.eval_shape(lived, 0)), lived(0))
    batch = replay.sample(memory, jax.random.key(0))
    first = np.asarray(batch.steps.reward[3])
    assert set(first) == set(range(E))
    np.testing.assert_array_equal(batch.steps.reward[:3], np.stack([first] * 3))
    np.testing.assert_array_equal(batch.carry, first)
