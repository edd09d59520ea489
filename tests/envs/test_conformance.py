"""One contract for every built-in JAX environment, seen through `Batched`, and proof that its checks bite."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counter import Counter
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.configuration import check as check_config
from thorndike.envs.batched import Batched, is_jax
from thorndike.envs.classic.acrobot import Acrobot
from thorndike.envs.classic.cartpole import CartPole
from thorndike.envs.classic.mountain_car import MountainCar
from thorndike.envs.classic.mountain_car_continuous import MountainCarContinuous
from thorndike.envs.classic.pendulum import Pendulum
from thorndike.envs.grid.grid_world import GridWorld, cliff_walking, four_rooms
from thorndike.envs.memory.repeat_previous import RepeatPrevious
from thorndike.envs.memory.t_maze import TMaze
from thorndike.types import Step, Timestep

ENVS = {
    "CartPole": CartPole(),
    "CartPole without velocities": CartPole(velocities=False),
    "Acrobot": Acrobot(),
    "MountainCar": MountainCar(),
    "MountainCarContinuous": MountainCarContinuous(),
    "Pendulum": Pendulum(),
    "GridWorld": GridWorld(),
    "cliff_walking": cliff_walking(),
    "four_rooms": four_rooms(),
    "FrozenLake": td.make("FrozenLake-v1", max_steps=6),
    "Taxi": td.make("Taxi-v4", max_steps=12),
    "RepeatPrevious": RepeatPrevious(cards=30, max_steps=7),
    "TMaze": TMaze(length=3, max_steps=20),
    "Counter": Counter(),
    "Counter that ends": Counter(ends=3),
    "Counter that ends with the clock": Counter(ends=5),
    "gymnax DeepSea": td.make("gymnax/DeepSea-bsuite", size=5),
    "pgx Breakout": td.make("pgx/minatar-breakout", max_steps=12),
    "Brax": td.make("brax/fast", max_steps=7),
}
RANDOM = (GridWorld, RepeatPrevious, td.GymnasiumTable, td.PgxGame)  # a step depends on its key
ADAPTED = (td.Gymnax, td.PgxGame, td.Robot)
PROBES = {
    "truncated": Counter(),
    "terminated": Counter(ends=3),
    "either": CartPole(max_steps=15),
}
COPIES = 3


class Record(NamedTuple):
    """What a random policy met."""

    times: Timestep  # [T + 1, E], NumPy
    actions: np.ndarray  # [T, E]


def random_actions(space, key, shape):
    if isinstance(space, Discrete):
        return jax.random.randint(key, shape, 0, int(space.n))
    assert isinstance(space, Box)
    return jax.random.uniform(key, shape + space.shape, minval=space.low, maxval=space.high)


def recorder(env, steps: int | None = None) -> Callable[[int], Record]:
    """From a seed to a random walk of two time limits and a bit; every seed has the same actions."""
    steps = steps or 2 * env.max_steps + 10
    actions = random_actions(env.action_space, jax.random.key(1_000), (steps, COPIES))

    @jax.jit
    def walk(batch, key):
        first_key, key = jax.random.split(key)
        start = batch.reset(first_key)

        def one(now, x):
            now = batch.step(now, *x)
            return now, now

        _, rest = jax.lax.scan(one, start, (actions, jax.random.split(key, steps)))
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, rest)

    return lambda seed: Record(*jax.tree.map(np.asarray, (walk(Batched(env, COPIES), jax.random.key(seed)), actions)))


@functools.lru_cache
def resets(env) -> Step:
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(5), 4096)))


def resets_vary(env) -> bool:
    return len(np.unique(resets(env).obs, axis=0)) > 1


def check_spaces(env, walk: Record) -> None:
    """Every observation, the last of an episode too, is one that the space announces."""
    space = env.observation_space
    for obs in (walk.times.obs, walk.times.final_obs):
        assert obs.shape[2:] == space.shape
        assert obs.dtype == space.dtype or (np.issubdtype(space.dtype, np.integer) and obs.dtype == np.int32)
        assert all(space.contains(one) for one in obs.reshape((-1, *space.shape)))
    assert walk.times.reward.dtype == np.float32
    assert walk.times.terminated.dtype == walk.times.truncated.dtype == walk.times.first.dtype == bool
    assert walk.times.reward.shape == (len(walk.actions) + 1, COPIES)


def check_endings(env, walk: Record) -> None:
    """Truncated at exactly `max_steps` and never with terminated; `first` after either, by an own count."""
    times, count = walk.times, np.zeros(COPIES, int)
    assert times.first[0].all()
    assert not (times.terminated[0] | times.truncated[0]).any()
    for t in range(1, len(times.first)):
        count += 1
        terminated, truncated = times.terminated[t], times.truncated[t]
        assert not (terminated & truncated).any()
        np.testing.assert_array_equal(truncated, (count == env.max_steps) & ~terminated)
        np.testing.assert_array_equal(times.first[t], terminated | truncated)
        count[terminated | truncated] = 0


def check_successors(env, walk: Record) -> None:
    """`final_obs`, reward and terminated are what `env.step` answers to the state before.

    The keys are the wrapper's affair: where the environment is random, one of its answers has to fit.
    """
    times = walk.times
    keys = jax.random.split(jax.random.key(9), 64 if isinstance(env, RANDOM) else 1)
    flat = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), (before(times).sim.state, walk.actions))
    answers = jax.jit(jax.vmap(jax.vmap(env.step, (None, None, 0)), (0, 0, None)))(*flat, keys)  # [T * E, keys]
    close = True
    for got, possible in (
        (times.final_obs, answers.obs),
        (times.reward, answers.reward),
        (times.terminated, answers.terminated),
    ):
        got, possible = got[1:].reshape((len(possible), 1, -1)), np.asarray(possible)
        possible = possible.reshape((*possible.shape[:2], -1))
        close &= np.isclose(got, possible, rtol=1e-5, atol=1e-5).all(-1)
    assert close.any(1).all()


def check_fresh(env, walk: Record) -> None:
    """`obs` is `final_obs` until an episode ends; then it and the state are a reset's, not one for all."""
    times, seen = walk.times, resets(env)
    going = ~times.first
    np.testing.assert_array_equal(times.obs[going], times.final_obs[going])
    fresh = jax.tree.map(lambda x: x[times.first], (times.obs, times.sim.state))
    jax.tree.map(assert_within, fresh, (seen.obs, seen.state))
    if resets_vary(env) and isinstance(env.observation_space, Box):
        assert len(np.unique(fresh[0], axis=0)) == len(fresh[0])


def assert_within(some: np.ndarray, sample: np.ndarray) -> None:
    """Whole numbers and flags occur in the sample, others lie in its range and one percent around."""
    if sample.dtype == bool or np.issubdtype(sample.dtype, np.integer):
        assert np.isin(some, sample).all()
        return
    margin = 0.01 * (sample.max(0) - sample.min(0))
    assert (some >= sample.min(0) - margin).all()
    assert (some <= sample.max(0) + margin).all()


def before(times: Timestep) -> Timestep:
    return jax.tree.map(lambda x: x[:-1], times)


CHECKS = [check_spaces, check_endings, check_successors, check_fresh]


@pytest.fixture(scope="module", params=ENVS, ids=lambda name: name.replace(" ", "-"))
def env(request):
    return ENVS[request.param]


@pytest.fixture(scope="module")
def walks(env):
    return recorder(env)


@pytest.fixture(scope="module")
def walk(walks):
    return walks(0)


def test_is_a_checked_jax_environment(env):
    assert is_jax(env)
    check_config(env)
    assert hash(jax.tree.structure(env)) == hash(jax.tree.structure(dataclasses.replace(env)))


@pytest.mark.parametrize("check", CHECKS)
def test_contract(env, walk, check):
    check(env, walk)


def test_random_walk_meets_ends(env, walk):
    """Without ends the contract would say little."""
    assert walk.times.first[1:].any()
    if isinstance(env, (CartPole, GridWorld)) or getattr(env, "ends", 0):
        assert walk.times.terminated.any()
    terminates = isinstance(env, CartPole) or getattr(env, "ends", 0) or getattr(env, "name", "") == "DeepSea-bsuite"
    if not terminates:
        assert walk.times.truncated.any()


def test_key_decides_everything(env, walk, walks):
    again, other = walks(0), walks(1)
    jax.tree.map(np.testing.assert_array_equal, again, walk)
    slips = getattr(env, "slip", 0.0) > 0 or isinstance(env, RepeatPrevious) or env == ENVS["FrozenLake"]
    assert np.array_equal(other.times.final_obs, walk.times.final_obs) != (resets_vary(env) or slips)


def test_compiles_once_whatever_the_physics(env):
    traces = 0

    @jax.jit
    def step(batch, now, action, key):
        nonlocal traces
        traces += 1
        return batch.step(now, action, key)

    key = jax.random.key(0)
    now = jax.jit(Batched.reset)(Batched(env, COPIES), key)
    for i in range(4):
        physics = jax.tree.map(lambda x, i=i: x * (1.0 + 0.1 * i), env)
        action = random_actions(env.action_space, jax.random.key(i), (COPIES,))
        now = step(Batched(physics, COPIES), now, action, jax.random.fold_in(key, i))
    assert traces == 1


def test_physics_is_an_axis(env):
    """Two worlds under one vmap are the two worlds, stepped apart."""
    if not jax.tree.leaves(env):
        pytest.skip("no numbers to change")
    worlds = [env, jax.tree.map(lambda x: 1.3 * x, env)]
    stacked = jax.tree.map(lambda *x: jnp.asarray(x, jnp.float32), *worlds)
    key = jax.random.key(2)
    actions = random_actions(env.action_space, key, (40, COPIES))

    def play(world):
        batch = Batched(world, COPIES)

        def one(now, x):
            now = batch.step(now, *x)
            return now, (now.final_obs, now.reward, now.terminated)

        return jax.lax.scan(one, batch.reset(key), (actions, jax.random.split(key, len(actions))))[1]

    together = jax.jit(jax.vmap(play))(stacked)
    apart = [jax.jit(play)(world) for world in worlds]
    for i, alone in enumerate(apart):
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5), together, alone)
    differences = jax.tree.map(lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))), *apart)
    assert any(jax.tree.leaves(differences))


def test_renders_rgb(env, walk):
    if isinstance(env, ADAPTED):
        pytest.skip("drawn by nobody")
    states = walk.times.sim.state
    frames = [env.render(jax.tree.map(lambda x, t=t: x[t, 0], states)) for t in (0, 4)]
    for frame in frames:
        assert frame.dtype == np.uint8
        assert frame.ndim == 3
        assert frame.shape[2] == 3
        assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0
        assert frame.flags.writeable
    assert len(np.unique(frames[0].reshape(-1, 3), axis=0)) > 1 or isinstance(env, Counter)
    moved = any(np.any(x[0, 0] != x[4, 0]) for x in jax.tree.leaves(states))
    assert np.array_equal(*frames) != moved


@pytest.mark.parametrize(("ends", "length"), [(0, 5), (3, 3), (5, 5)])
def test_counter_shows_no_fake_transition(ends, length):
    """0 1 2 .. n, 1 2 .. n: every step counts one further, and no step leads to a reset's [0]."""
    times = recorder(Counter(ends=ends))(0).times
    t = np.arange(len(times.first))[:, None].repeat(COPIES, 1)
    np.testing.assert_array_equal(times.obs[..., 0], t % length)
    np.testing.assert_array_equal(times.final_obs[1:, :, 0], (t[1:] - 1) % length + 1)
    np.testing.assert_array_equal(times.final_obs[1:], times.obs[:-1] + 1)
    np.testing.assert_array_equal(times.reward[1:], times.final_obs[1:, :, 0])
    np.testing.assert_array_equal(times.first, t % length == 0)
    end = (t % length == 0) & (t > 0)
    np.testing.assert_array_equal(times.terminated, end & (ends > 0))
    np.testing.assert_array_equal(times.truncated, end & (ends == 0))


@pytest.mark.parametrize("probe", PROBES)
def test_the_contract_at_both_ends(probe):
    walk = recorder(PROBES[probe], steps=60)(0)
    for check in CHECKS:
        check(PROBES[probe], walk)
