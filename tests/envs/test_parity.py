"""The built-in twins of Gymnasium's environments: the same spaces, resets and, state by state, steps."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ks_2samp

from thorndike.envs.classic.acrobot import Acrobot
from thorndike.envs.classic.cartpole import CartPole
from thorndike.envs.classic.mountain_car import MountainCar
from thorndike.envs.classic.mountain_car_continuous import MountainCarContinuous
from thorndike.envs.classic.pendulum import Pendulum
from thorndike.envs.grid.grid_world import GridState, cliff_walking

STEPS = 10_000
KEY = jax.random.key(0)


class Twin(NamedTuple):
    env: Any
    reach: tuple[
        tuple[float, float], ...
    ]  # from where float32 steps to 1e-5: Acrobot's fastest spins amplify rounding to 4e-4
    angles: tuple[int, ...] = ()  # state entries that are equal modulo 2π


TWINS = {
    "CartPole-v1": Twin(CartPole(), ((-2.4, 2.4), (-4, 4), (-0.2094, 0.2094), (-4, 4))),
    "Acrobot-v1": Twin(
        Acrobot(),
        ((-np.pi, np.pi), (-np.pi, np.pi), (-2 * np.pi, 2 * np.pi), (-4.5 * np.pi, 4.5 * np.pi)),
        angles=(0, 1),
    ),
    "MountainCar-v0": Twin(MountainCar(), ((-1.2, 0.6), (-0.07, 0.07))),
    "MountainCarContinuous-v0": Twin(MountainCarContinuous(), ((-1.2, 0.6), (-0.07, 0.07))),
    "Pendulum-v1": Twin(Pendulum(), ((-20, 20), (-8, 8))),
}


class Steps(NamedTuple):
    """What Gymnasium did. Leading axis [n]."""

    state: np.ndarray
    action: np.ndarray
    next_state: np.ndarray
    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray


def gymnasium_step(host, state: np.ndarray, action) -> Steps:
    """One step of Gymnasium's from a state that float32 can hold."""
    state = np.float64(np.float32(state))
    host.state, host.steps_beyond_terminated = state.copy(), None
    obs, reward, terminated, truncated, _ = host.step(action)
    assert not truncated
    return Steps(state, action, np.array(host.state, float), obs, reward, terminated)


def random_actions(space, rng):
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(space.n, size=STEPS)
    return rng.uniform(1.5 * space.low, 1.5 * space.high, (STEPS, *space.shape)).astype(np.float32)  # some too large


@functools.lru_cache
def gymnasium_steps(name: str, source: str) -> Steps:
    host, rng, twin = (
        gymnasium.make(name, disable_env_checker=True).unwrapped,
        np.random.default_rng(0),
        TWINS[name],
    )
    host.reset(seed=0)
    low, high = np.array(twin.reach).T
    done, met = 0, []
    for i, action in enumerate(random_actions(host.action_space, rng)):
        if source != "random policy":
            state = rng.uniform(low, high) * (2 if source == "far beyond" else 1)
        elif done or i % twin.env.max_steps == 0:
            host.reset()
            state = host.state
        else:
            state = host.state
        met.append(gymnasium_step(host, state, action))
        done = met[-1].terminated
    return Steps(*(np.array(column) for column in zip(*met)))


@jax.jit
def many_steps(env, state, action):
    return jax.vmap(env.step, (0, 0, None))(state, action, KEY)


def thorndike_steps(env, state: np.ndarray, action: np.ndarray):
    kind = type(env.reset(KEY).state)
    state = kind(*jnp.asarray(state.T, float))
    answer = many_steps(env, state, jnp.asarray(action))
    return jax.tree.map(np.asarray, answer._replace(state=jnp.stack(answer.state, 1)))


def assert_parity(name: str, source: str, tolerance: float) -> None:
    twin, theirs = TWINS[name], gymnasium_steps(name, source)
    ours = thorndike_steps(twin.env, theirs.state, theirs.action)
    difference = ours.state - theirs.next_state
    for k in twin.angles:
        difference[:, k] -= 2 * np.pi * np.round(difference[:, k] / (2 * np.pi))
    scale = np.maximum(1.0, np.abs(theirs.next_state))
    assert (np.abs(difference) / scale).max() < tolerance
    np.testing.assert_allclose(ours.obs, theirs.obs, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours.reward, theirs.reward, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(ours.terminated, theirs.terminated)
    assert len(theirs.reward) == STEPS
    if source == "anywhere" and name != "Pendulum-v1":
        assert 0 < theirs.terminated.sum() < STEPS


@pytest.mark.parametrize("source", ["random policy", "anywhere"])
@pytest.mark.parametrize("name", TWINS)
def test_ten_thousand_steps(name, source):
    assert_parity(name, source, 1e-5)


@pytest.mark.parametrize("name", TWINS)
def test_equations_are_the_same(name):
    """In double precision the two agree to the rounding of Gymnasium's float32 observations, far out too."""
    with jax.enable_x64(True):
        assert_parity(name, "far beyond", 2e-7)


@pytest.mark.parametrize("name", TWINS)
def test_every_physical_constant_matters(name):
    """A field that step ignores would not be a field: changing it changes some of the 10,000 steps."""
    env, theirs = TWINS[name].env, gymnasium_steps(name, "anywhere")
    plain = thorndike_steps(env, theirs.state, theirs.action)
    for field in dataclasses.fields(env):
        if field.type == "float":
            value = getattr(env, field.name)
            other = dataclasses.replace(env, **{field.name: 1.1 * value + 0.01})
            changed = thorndike_steps(other, theirs.state, theirs.action)
            same = jax.tree.map(np.array_equal, plain, changed)
            assert not all(jax.tree.leaves(same)), field.name


@pytest.mark.parametrize("name", TWINS)
def test_spaces_and_time_limit(name):
    env, host = TWINS[name].env, gymnasium.make(name, disable_env_checker=True)
    assert env.observation_space == host.observation_space
    assert env.action_space == host.action_space
    assert env.max_steps == gymnasium.spec(name).max_episode_steps


@pytest.mark.parametrize("name", TWINS)
def test_resets_are_distributed_alike(name):
    """Kolmogorov and Smirnov cannot tell 2,000 of Gymnasium's resets from ours, states and observations."""
    env, host = TWINS[name].env, gymnasium.make(name, disable_env_checker=True).unwrapped
    host.reset(seed=0)
    theirs = [(host.reset()[0], np.array(host.state, float)) for _ in range(2_000)]
    ours = jax.vmap(env.reset)(jax.random.split(KEY, 2_000))
    for mine, other in ((ours.obs, 0), (jnp.stack(ours.state, 1), 1)):
        for a, b in zip(np.asarray(mine).T, np.array([pair[other] for pair in theirs]).T):
            assert ks_2samp(a, b).pvalue > 1e-3
            assert a.min() >= b.min() - 0.02 * np.ptp(b)
            assert a.max() <= b.max() + 0.02 * np.ptp(b)
    assert not np.asarray(ours.terminated).any()


def test_cliff_walking_is_gymnasiums():
    """All 48 cells and 4 actions, those that no walk meets included, and 10,000 steps of one walk."""
    grid, host = cliff_walking(), gymnasium.make("CliffWalking-v1", disable_env_checker=True).unwrapped
    assert grid.observation_space == host.observation_space
    assert grid.action_space == host.action_space
    assert gymnasium.spec("CliffWalking-v1").max_episode_steps is None
    assert int(grid.reset(KEY).obs) == host.reset(seed=0)[0] == 36
    met, rng, over = (
        [(cell, action) for cell in range(48) for action in range(4)],
        np.random.default_rng(0),
        False,
    )
    theirs, action = [], 0
    for i in range(len(met) + STEPS):
        if i < len(met):
            host.s, action = met[i]
        elif over or i == len(met):
            host.reset()
        if i >= len(met):
            action = int(rng.integers(4))
        before = host.s
        obs, reward, over, _, _ = host.step(action)
        theirs.append((before, action, obs, reward, over))
    cells, actions, obs, reward, terminated = (np.array(column) for column in zip(*theirs))
    ours = jax.vmap(grid.step, (0, 0, None))(GridState(jnp.asarray(cells)), jnp.asarray(actions), KEY)
    np.testing.assert_array_equal(ours.obs, obs)
    np.testing.assert_array_equal(ours.state.cell, obs)
    np.testing.assert_array_equal(ours.reward, reward)
    np.testing.assert_array_equal(ours.terminated, terminated)
    assert set(reward.tolist()) == {-1, -100}
    assert terminated.any()
