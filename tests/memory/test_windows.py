"""Returns over several steps against a loop over each environment's own list of steps, in every row of the ring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from thorndike.memory import windows
from thorndike.memory.replay import Uniform
from thorndike.ops import returns
from thorndike.types import Rollout, Transition

E, T, GAMMA = 3, 4, 0.9


def experience(seed: int, rollouts: int):
    """Rollouts with random ends of both kinds, and a seam where episodes begin though none has ended."""
    rng, first = np.random.default_rng(seed), np.ones(E, bool)
    for k in range(rollouts):
        n, flags = (T, E), rng.random((2, T, E)) < 0.15
        begins = np.zeros(n, bool)
        for t in range(T):
            begins[t] = first
            first = flags[0, t] | flags[1, t]
        if k == rollouts - 1:
            begins[0] = True
        steps = Transition(
            obs=rng.normal(size=n).astype(np.float32),
            first=begins,
            action=rng.integers(0, 3, n),
            extras={},
            reward=rng.normal(size=n).astype(np.float32),
            terminated=flags[0],
            truncated=flags[1] & ~flags[0],
            next_obs=rng.normal(size=n).astype(np.float32),
            info={"mask": rng.random((*n, 2)) < 0.5, "next_mask": rng.random((*n, 2)) < 0.5},
        )
        yield Rollout(jax.tree.map(jnp.asarray, steps), (), ())


def loop(history, i: int, n: int):
    """What a return over n steps from step i of one environment is made of."""
    total, k = 0.0, 0
    while True:
        step = history[i + k]
        total, k = total + GAMMA**k * step.reward, k + 1
        over = step.terminated or step.truncated or i + k == len(history)
        if k == n or over or history[i + k].first:
            return total, GAMMA**k, step


def check(n, rollouts):
    replay = Uniform(capacity=36, batch_size=4, warmup=4, n_step=n)
    given = list(experience(n, rollouts))
    memory = replay.init(given[0])
    for one in given:
        memory = replay.add(memory, one)
    steps = jax.tree.map(lambda *xs: np.concatenate(xs), *[one.steps for one in given])  # [T', E, ...]
    kept, size = steps.reward.shape[0], int(memory.size)
    begin = kept - size // E  # the oldest step that is kept
    batch = replay.read(memory, jnp.arange(size))
    reward, discount = returns.n_step(batch, GAMMA)
    for row in range(size):
        t, e = divmod((row - int(memory.cursor)) % size if kept * E > size else row, E)
        history = [jax.tree.map(lambda x, i=i, e=e: x[i, e], steps) for i in range(begin, kept)]
        total, left, last = loop(history, t, n)
        assert batch.obs[row] == history[t].obs
        np.testing.assert_allclose(reward[row], total, rtol=1e-5)
        np.testing.assert_allclose(np.broadcast_to(discount, size)[row], left, rtol=1e-6)
        assert (batch.next_obs[row], batch.terminated[row]) == (last.next_obs, last.terminated)
        np.testing.assert_array_equal(batch.info["next_mask"][row], last.info["next_mask"])
        np.testing.assert_array_equal(batch.info["mask"][row], history[t].info["mask"])


@pytest.mark.parametrize("rollouts", [2, 9])
@pytest.mark.parametrize("n", [1, 3, 5])
def test_returns_are_those_of_a_loop(n, rollouts):
    """With the ring half filled, and written over."""
    check(n, rollouts)


def without(part):
    """`window` with one of its conditions left out."""

    def window(memory, index, n):
        data, k = memory.data, jnp.arange(n)[:, None]
        capacity = data.reward.shape[0]
        rows = (index + k * memory.stride) % capacity
        newer = (memory.cursor - 1 - index) % capacity // memory.stride
        conditions = {
            "end": ~data.terminated[rows[:-1]],
            "cut": ~data.truncated[rows[:-1]],
            "seam": ~data.first[rows[1:]],
            "cursor": k[1:] <= newer,
        }
        kept = [condition for name, condition in conditions.items() if name != part]
        follows = jnp.stack(kept).all(0)
        return rows, jnp.cumprod(follows, 0).astype(bool)

    return window


def test_the_copy_of_the_mutants_is_right(monkeypatch):
    monkeypatch.setattr(windows, "window", without("nothing"))
    check(3, 9)


@pytest.mark.parametrize("part", ["seam", "cursor"])
def test_windows_that_run_on_are_noticed(part, monkeypatch):
    """Where an episode ended the next row is also the first of another, so only both together let a window run on."""
    monkeypatch.setattr(windows, "window", without(part))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(3, 9)


def test_a_discount_that_is_not_raised_to_the_number_of_steps_is_noticed(monkeypatch):
    right = returns.n_step
    monkeypatch.setattr(returns, "n_step", lambda steps, discount: (right(steps, discount)[0], discount))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(3, 9)


def test_returns_are_rlaxs():
    """Of one long episode, away from its end."""
    n, rng = 3, np.random.default_rng(0)
    reward, value = rng.normal(size=(2, 40)).astype(np.float32)
    zeros = jnp.zeros((40, 1), bool)
    steps = Transition(
        value[:, None], zeros, zeros, {}, reward[:, None], zeros, zeros, np.append(value[1:], 0.0)[:, None], {}
    )
    replay = Uniform(capacity=40, batch_size=4, warmup=4, n_step=n)
    memory = replay.add(replay.init(Rollout(steps, (), ())), Rollout(steps, (), ()))  # type: ignore[arg-type]
    batch = replay.read(memory, jnp.arange(36))
    total, discount = returns.n_step(batch, GAMMA)
    mine = returns.td_target(total, batch.next_obs, batch.terminated, discount)
    theirs = rlax.n_step_bootstrapped_returns(reward[:-1], jnp.full(39, GAMMA), value[1:], n)
    np.testing.assert_allclose(mine, theirs[:36], rtol=1e-4, atol=1e-5)
