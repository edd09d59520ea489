"""Windows against each environment's own list of steps; which of them are drawn, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

import thorndike as td
from thorndike.memory import trajectories, windows
from thorndike.types import Rollout, Transition

E, T, LENGTH = 3, 4, 5


def experience(rollouts, seam=None):
    """Rollouts that number their steps from 0, with random ends; in `seam` episodes begin though none has ended."""
    rng, first, history = np.random.default_rng(0), np.ones(E, bool), []
    for t in range(rollouts * T):
        if t == seam:
            first = np.ones(E, bool)
        over = rng.random((2, E)) < 0.2
        number = t + 1000.0 * np.arange(E)
        history.append(
            Transition(
                obs={"a": number[:, None]},
                first=first,
                action=rng.integers(0, 3, E),
                extras={"policy": rng.random((E, 2))},
                reward=number,
                terminated=over[0],
                truncated=over[1] & ~over[0],
                next_obs=(),
                info={},
            )
        )
        first = over[0] | over[1]
    return jax.tree.map(lambda *xs: jnp.stack(xs), *history)


def filled(replay, steps):
    """The memory after all rollouts in `steps` [T', E, ...]."""
    parts = [jax.tree.map(lambda x, i=i: x[i : i + T], steps) for i in range(0, steps.reward.shape[0], T)]
    memory = replay.init(Rollout(parts[0], (), ()))
    for part in parts:
        memory = replay.add(memory, Rollout(part, (), ()))
    return memory


def check(rollouts, capacity=36, seam=6):
    """Every whole window is a piece of one environment's history, leaf for leaf; others are not drawn, all equally."""
    replay = td.Windows(capacity=capacity, batch_size=20_000, length=LENGTH, warmup=20)
    steps = experience(rollouts, seam)
    memory = filled(replay, steps)
    total = steps.reward.shape[0]
    kept = int(memory.size) // E
    batch = replay.sample(memory, jax.random.key(1)).steps
    begin = np.asarray(batch.reward[0]).astype(int)
    env, time = begin // 1000, begin % 1000
    assert time.min() >= total - kept
    assert time.max() <= total - LENGTH
    counts = np.bincount((time - (total - kept)) * E + env, minlength=(kept - LENGTH + 1) * E)
    assert len(counts) == (kept - LENGTH + 1) * E
    assert chisquare(counts).pvalue > 1e-4
    expected = jax.tree.map(lambda x: np.asarray(x)[time + np.arange(LENGTH)[:, None], env], steps)
    cut = np.zeros((total, E), bool)
    cut[seam - 1] = ~np.asarray(steps.ended)[seam - 1]
    inside = np.arange(LENGTH)[:, None] < LENGTH - 1  # of the last step it is not seen that another episode follows
    expected = expected._replace(truncated=expected.truncated | (cut[time + np.arange(LENGTH)[:, None], env] & inside))
    jax.tree.map(np.testing.assert_array_equal, batch, expected)


@pytest.mark.parametrize("rollouts", [2, 3, 7])
def test_windows_are_those_of_a_loop(rollouts):
    """With the ring in part filled, just filled, and written over."""
    check(rollouts)


def of_one_row(memory, index, n):
    """The mutant that takes the next row for the next step."""
    rows = (index + jnp.arange(n)[:, None]) % memory.data.reward.shape[0]
    return rows, jnp.ones((n - 1, len(index)), bool)


class Mutant(td.Windows):
    """Draws from all rows: windows run over the cursor."""

    def sample(self, memory, key):
        return self.read(memory, jax.random.randint(key, (self.batch_size,), 0, memory.size))


class Skewed(td.Windows):
    """Draws the oldest rows more often."""

    def sample(self, memory, key):
        capacity = memory.data.reward.shape[0]
        u = jax.random.uniform(key, (self.batch_size,)) ** 1.2
        whole = memory.size - (self.length - 1) * memory.stride
        return self.read(memory, (memory.cursor + (u * whole).astype(int)) % capacity)


class Unmarked(td.Windows):
    """Says nothing of the seam."""

    def read(self, memory, index):
        rows, _ = windows.window(memory, index, self.length)
        return Rollout(jax.tree.map(lambda ring: ring[rows], memory.data), (), ())


@pytest.mark.parametrize("mutant", [Mutant, Skewed, Unmarked])
def test_wrong_windows_are_noticed(mutant, monkeypatch):
    for name in {"sample", "read"} & set(vars(mutant)):
        monkeypatch.setattr(td.Windows, name, vars(mutant)[name])
    with pytest.raises(AssertionError):
        check(4)


def test_the_wrong_stride_is_noticed(monkeypatch):
    monkeypatch.setattr(trajectories, "window", of_one_row)
    with pytest.raises(AssertionError):
        check(4)


def test_a_warm_up_that_holds_no_window_is_refused():
    steps = Rollout(experience(1), (), ())
    with pytest.raises(td.ConfigError, match=r"set replay\.warmup to 15 or more"):
        td.Windows(capacity=36, batch_size=4, length=LENGTH, warmup=4).init(steps)
    with pytest.raises(td.ConfigError, match=r"replay\.length must be 1 or more"):
        td.configuration.check(td.Windows(length=0))


def test_sampling_needs_no_copy_of_the_ring():
    replay = td.Windows(capacity=400_000, batch_size=16, length=LENGTH, warmup=20)
    memory = jax.eval_shape(replay.init, Rollout(experience(1), (), ()))
    program = jax.jit(replay.sample).lower(memory, jax.random.key(0)).compile()
    storage = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(memory))
    assert program.memory_analysis().temp_size_in_bytes < storage / 100
