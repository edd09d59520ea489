"""What drivers do with every algorithm: random actions, batches, clocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnasium.spaces import Box, Discrete, MultiDiscrete

import thorndike as td
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import improve, random_action
from thorndike.drivers.scan import ScanDriver
from thorndike.ops.keys import random_key

TINY = {"num_envs": 2, "rollout_length": 4, "torso": td.Torso(widths=(4,))}
PPO = td.PPO(minibatch_size=8, epochs=1, **TINY)
DQN = td.DQN(replay=td.Uniform(capacity=64, batch_size=8, warmup=16), **TINY)
BOXES = {
    "of unequal sides": (Box(np.float32([0, -4]), np.float32([10, 4])), [0, -4], [10, 4]),
    "far out": (Box(2000, 3000, (2,)), [2000] * 2, [3000] * 2),
    "large": (Box(-1e5, 1e5, (2,)), [-1e5] * 2, [1e5] * 2),
    "without bounds": (Box(-np.inf, np.inf, (2,)), [-1] * 2, [1] * 2),  # as far as a network's first actions go
}


@pytest.mark.parametrize("name", BOXES)
def test_random_actions_fill_their_box(name):
    """Kolmogorov and Smirnov against the uniform distribution, side by side."""
    space, low, high = BOXES[name]
    n, none = 2000, np.zeros(2000, bool)
    now = td.Timestep(none, np.zeros(n), none, none, none, none, {})
    action = np.asarray(random_action(space, now, jax.random.key(0)))
    assert action.shape == (n, 2)
    for i in range(2):
        assert scipy.stats.kstest(action[:, i], "uniform", (low[i], high[i] - low[i])).pvalue > 1e-3
    assert abs(np.corrcoef(action.T)[0, 1]) < 0.1


PARTS = [(Discrete(4, start=3), [4]), (MultiDiscrete([2, 3]), [2, 3]), (MultiDiscrete([[2, 3], [4, 2]]), [2, 3, 4, 2])]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("space", "sizes"), PARTS)
def test_random_actions_are_all_that_is_legal(space, sizes, masked):
    """And each as often, by a chi-squared test; of every part the last two actions are legal, or all."""
    n, none = 4000, np.zeros(4000, bool)
    legal = np.concatenate([np.arange(size) >= (size - 2) * masked for size in sizes])
    info = {"mask": jnp.broadcast_to(legal, (n, legal.size))} if masked else {}
    now = td.Timestep(none, np.zeros(n), none, none, none, none, info)
    action = np.asarray(random_action(space, now, jax.random.key(0)))
    assert action.shape == (n, *space.shape)
    for part, size in zip(action.reshape(n, -1).T, sizes):
        counts = np.bincount(part, minlength=size)
        assert len(counts) == size
        first = (size - 2) * masked
        assert counts[:first].sum() == 0
        assert scipy.stats.chisquare(counts[first:]).pvalue > 1e-3


def test_every_gradient_step_has_a_batch_and_a_key_of_its_own():
    class Counting:
        """An algorithm that writes down what it is given."""

        num_envs, rollout_length, replay_ratio = 1, 1, 5

        class replay:
            sample = staticmethod(lambda memory, key: jax.random.uniform(key))

        def update(self, state, batch, key):
            n, seen = state
            return (n + 1, seen.at[n].set(jnp.stack([batch, jax.random.uniform(key)]))), {"n": jnp.float32(n)}

    (n, seen), _, metrics = improve(Counting(), (0, jnp.zeros((5, 2))), None, None, jax.random.key(0))
    assert n == 5
    assert len(np.unique(seen)) == 10
    assert metrics["n"] == 2.0  # the mean


@pytest.mark.parametrize(
    ("algorithm", "warm", "on_host"),
    [
        (PPO, 0, True),
        (DQN, 2, False),
        pytest.param(PPO, 0, False, marks=pytest.mark.slow),
        pytest.param(DQN, 2, True, marks=pytest.mark.slow),
    ],
)
def test_clocks_show_what_was_done(algorithm, warm, on_host):
    """After the warm-up too."""
    env = td.make("gymnasium/CartPole-v1" if on_host else "CartPole-v1")
    spec = td.Spec(env.observation_space, env.action_space, 1000)
    driver = HostDriver(algorithm, env, spec, [0]) if on_host else ScanDriver(algorithm, env, spec, 1)
    with driver:
        state = driver.init(jax.vmap(random_key)(jnp.zeros(1, jnp.uint32)))
        for n in ((1, True), (warm - 1, True)) if warm else ():
            state = driver.advance(state, *n)
            assert state.agent.clock.steps == state.steps > 0
        for n in (1, 3):
            state = driver.advance(state, 2)
            assert state.agent.clock.steps == state.steps == 8 * (warm + n + 1)
            assert state.agent.clock.total == 1000
