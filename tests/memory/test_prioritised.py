"""Prioritised replay: frequencies against p / Σ p, weights, the ring, and no copy of it."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from test_replay import ROWS, E, T, experience, names

from thorndike.configuration import check
from thorndike.drivers.learner import improve, ranked, ranking_of
from thorndike.errors import ConfigError
from thorndike.memory import ranking as ranks
from thorndike.memory import sum_tree
from thorndike.memory.prioritised import Prioritised

PER = Prioritised(capacity=60, batch_size=12, warmup=12, alpha=0.7, beta=0.5)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 300, 5000])
def test_leaves_are_found_by_their_mass(n):
    """In every level, with leaves of no mass, after many changes; against NumPy's cumulative sum."""
    rng = np.random.default_rng(n)
    mass = np.where(rng.random(n) < 0.5, rng.integers(1, 9, n), 0).astype(np.float32)
    mass[rng.integers(n)] = 3.0
    levels = sum_tree.put(sum_tree.zeros(n), jnp.arange(n), jnp.full(n, 7.0))
    levels = sum_tree.put(levels, jnp.arange(n), jnp.asarray(mass))
    assert float(sum_tree.total(levels)) == mass.sum()
    at = np.append(rng.uniform(0, mass.sum(), 2000), [0.0, mass.sum(), mass.sum() * 1.001]).astype(np.float32)
    found, own = sum_tree.find(levels, jnp.asarray(at))
    expected = np.searchsorted(mass.cumsum(), at, side="right")
    expected[-2:] = np.flatnonzero(mass)[-1]  # both ends of the range are valid
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(own, mass[expected])


def filled(per=PER, rollouts=10):
    memory = per.init(experience(0))
    for step in range(rollouts):
        memory = per.add(memory, experience(step))
    return memory


def with_errors(memory, error, per=PER):
    """After an update whose errors were these, of all rows."""
    batch = experience(0).steps._replace(extras={"index": jnp.arange(error.size), "weight": jnp.ones(error.size)})
    return ranked(memory, per.rank(memory.ranking, batch, {"td_error": jnp.asarray(error)}))


def drawn(memory, per=PER, n=4_000):
    """The rows of n batches, and their weights."""
    sample = jax.jit(jax.vmap(partial(per.sample, memory)))
    batch = sample(jax.random.split(jax.random.key(0), n))
    return np.asarray(batch.extras["index"]), np.asarray(batch.extras["weight"]), batch


def test_rows_are_drawn_by_their_priority():
    error = np.random.default_rng(0).exponential(size=60).astype(np.float32) * np.where(np.arange(60) % 7, 1, -1)
    index, weight, batch = drawn(with_errors(filled(), error))
    p = (np.abs(error) + ranks.LEAST) ** 0.7
    counts, expected = np.bincount(index.ravel(), minlength=60), p / p.sum() * index.size
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-4
    one = jax.tree.map(lambda x: x[0], batch)
    i = np.asarray(names(one))  # a row is whole
    np.testing.assert_array_equal(i % 60, index[0])
    w = (60 * p / p.sum())[index] ** -0.5
    np.testing.assert_allclose(weight, w / w.max(1, keepdims=True), rtol=1e-4)


def test_at_full_correction_the_weighted_mean_is_the_uniform_mean():
    """Of any quantity of the rows, so of the gradient too."""
    per = Prioritised(capacity=60, batch_size=12, warmup=12, alpha=1.0, beta=1.0)
    rng = np.random.default_rng(1)
    error = 0.3 + rng.exponential(size=60).astype(np.float32)
    quantity = error + rng.normal(size=60)
    memory = with_errors(filled(per), error, per)
    index, weight, _ = drawn(memory, per)
    relative = 60 * (error / error.sum())[index]  # how much more often than uniformly a row is drawn
    weighted = (weight / relative.min(1, keepdims=True) * quantity[index]).mean()  # weights are relative to the largest
    np.testing.assert_allclose(weighted, quantity.mean(), rtol=0.02)
    assert quantity[index].mean() > 1.2 * quantity.mean()


def test_each_batch_has_a_row_of_every_part_of_equal_mass():
    """Strata: of 60 equal rows, five neighbours give one row each time."""
    index, _, _ = drawn(with_errors(filled(), np.ones(60, np.float32)), n=50)
    np.testing.assert_array_equal(np.sort(index // 5, 1), np.broadcast_to(np.arange(12), index.shape))


def test_new_rows_have_the_highest_priority_and_old_ones_lose_theirs():
    memory = with_errors(filled(), np.r_[np.full(59, 0.1), 5.0].astype(np.float32))
    memory = PER.add(memory, experience(10))  # over the oldest
    leaves = np.asarray(memory.ranking.levels[0])[:60]
    np.testing.assert_allclose(leaves[:ROWS], 5.0**0.7, rtol=1e-5)
    np.testing.assert_allclose(leaves[ROWS:59], 0.1**0.7, rtol=1e-4)


def test_rows_that_are_not_filled_are_never_drawn():
    index, weight, _ = drawn(filled(rollouts=1))
    assert index.max() < ROWS
    np.testing.assert_allclose(weight, 1.0, rtol=1e-5)


def mutants():
    def not_refreshed(ranking, index, weight, error, alpha):
        return ranking

    def by_index(ranking, index, weight, error, alpha):
        return right(ranking, (index + 1) % 60, weight, error, alpha)

    right = ranks.refresh
    return {"not refreshed": not_refreshed, "of the neighbour": by_index}


@pytest.mark.parametrize("name", mutants())
def test_wrong_rankings_are_noticed(name, monkeypatch):
    monkeypatch.setattr(ranks, "refresh", mutants()[name])
    error = np.where(np.arange(60) < 30, 0.1, 1.0).astype(np.float32)
    index, _, _ = drawn(with_errors(filled(), error))
    p = error**0.7
    share = np.isin(index, np.arange(30, 60)).mean()
    exact = np.bincount(index.ravel(), minlength=60) / index.size - p / p.sum()
    assert abs(share - p[30:].sum() / p.sum()) > 0.05 or np.abs(exact).max() > 5e-3


class Learner:
    """Learns nothing, and says that each row's error is its reward."""

    num_envs, rollout_length = E, T

    def __init__(self, replay, updates):
        self.replay, self.replay_ratio = replay, updates / ROWS

    def update(self, state, batch, key):
        return state + batch.extras["weight"].sum(), {"td_error": batch.reward, "loss": batch.reward * 0}


def test_a_metric_that_is_not_told_of_each_row_is_refused():
    """One that is missing, and one number for the whole batch, which would give all of its rows one priority."""
    batch = experience(0).steps._replace(extras={"index": jnp.arange(12), "weight": jnp.ones(12)})
    per, ranking = dataclasses.replace(PER, by="loss"), ranks.unranked(60)
    for loss in ({}, {"loss": jnp.float32(1)}):
        with pytest.raises(ConfigError, match=r"replay.by is 'loss'.* tell td_error of each row"):
            per.rank(ranking, batch, {"td_error": jnp.ones((1, 12)), **loss})


@pytest.mark.parametrize("runs", [1, 3])
def test_drawing_and_ranking_copy_nothing_large(runs):
    """The program's scratch memory stays far below the ring, and below its ranking."""
    rows = 120_000
    learner = Learner(Prioritised(capacity=rows, batch_size=32, warmup=32, n_step=2, beta=0.5), updates=3)
    example = experience(0)

    def iterate(carry, key):
        state, memory = carry
        memory = learner.replay.add(memory, example)
        state, ranking, metrics = improve(learner, state, memory, example, key)
        return (state, ranked(memory, ranking)), metrics["td_error"]

    def loop(carry, keys):
        one = iterate if runs == 1 else jax.vmap(iterate, in_axes=(0, None))
        return jax.lax.scan(one, carry, keys)

    memory = jax.eval_shape(lambda: learner.replay.init(example))
    carry = jax.ShapeDtypeStruct((), jnp.float32), memory
    if runs > 1:
        carry = jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape), x.dtype), carry)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 5))
    scratch = jax.jit(loop, donate_argnums=0).lower(carry, keys).compile().memory_analysis().temp_size_in_bytes
    ring = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(ranking_of(carry[1])))
    assert ring > runs * 4 * rows
    assert scratch < ring / 10


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"alpha": -1.0}, "alpha"),
        ({"beta": 1.5}, "beta"),
        ({"by": "size"}, "one of 'td_error', 'loss'"),
        ({"n_step": 0}, "n_step must be 1 or more"),
    ],
)
def test_check(bad, message):
    with pytest.raises(ConfigError, match=message):
        check(Prioritised(**bad))
