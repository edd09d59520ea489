"""Passes over shuffled minibatches: each row once in a pass, in an order of its own, and what a step returns."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thorndike.ops import minibatches

N, COUNT, TIMES = 23, 5, 4  # minibatches of 4 rows; 3 are left over in each pass


def seen(n=N):
    """The rows of each minibatch, [passes, minibatches, rows], and the sum and mean that the steps made."""

    def step(carry, rows):
        place, shown, total = carry
        a, b = rows
        return (place + 1, shown.at[place].set(a), total + b[:, 0].sum()), {"mean": b.mean()}

    rows = (jnp.arange(n), jnp.stack([jnp.arange(n), -jnp.arange(n)], 1).astype(jnp.float32))
    start = (0, jnp.zeros((TIMES * COUNT, n // COUNT), int), 0.0)
    (_, shown, total), metrics = minibatches.passes(step, start, rows, COUNT, TIMES, jax.random.key(0))
    return np.asarray(shown).reshape(TIMES, -1), float(total), metrics


def check_passes():
    shown, total, metrics = seen()
    for order in shown:
        assert len(set(order)) == N // COUNT * COUNT
    assert len({tuple(order) for order in shown}) == TIMES
    assert len({tuple(sorted(set(range(N)) - set(order))) for order in shown}) > 1  # other rows are left over
    assert total == shown.sum()
    assert metrics["mean"] == 0.0


def test_passes():
    check_passes()
    assert sorted(seen(20)[0][0]) == list(range(20))


@pytest.mark.parametrize("mutant", ["no shuffle", "drawn with replacement"])
def test_other_orders_are_noticed(mutant, monkeypatch):
    wrong = {"no shuffle": lambda key, n: jnp.arange(n), "drawn with replacement": lambda k, n: jax.random.randint(k, (n,), 0, n)}  # fmt: skip  # noqa: E501
    monkeypatch.setattr(minibatches, "permutation", wrong[mutant])
    with pytest.raises(AssertionError):
        check_passes()
