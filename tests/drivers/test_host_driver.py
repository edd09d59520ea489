"""The driver for host environments: what learns beside what steps, and in which order."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box

import thorndike as td
from thorndike.drivers import host, program
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.program import EIGEN, known, options
from thorndike.drivers.scan import ScanDriver
from thorndike.ops.keys import random_key

SMALL = {"num_envs": 2, "torso": td.Torso(widths=(8,), init="uniform")}
REPLAY = td.Uniform(capacity=64, batch_size=8, warmup=32)
WIDE = td.Torso(widths=(256, 256), activation="relu", init="uniform")


class Pictures(gymnasium.Env):
    """Noise to look at, and to be pressed or not."""

    observation_space, action_space = Box(0, 255, (16, 16, 3), np.uint8), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.step(0)[0], {}

    def step(self, action):
        obs = self.np_random.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        return obs, float(action), False, bool(self.np_random.random() < 0.1), {}


CASES = {
    "ppo": (td.PPO(rollout_length=8, minibatch_size=8, **SMALL), "gymnasium/CartPole-v1"),
    "dqn": (td.DQN(replay=REPLAY, rollout_length=3, replay_ratio=1 / 3, **SMALL), "gymnasium/CartPole-v1"),
    "sac": (td.SAC(replay=REPLAY, **SMALL), "gymnasium/Pendulum-v1"),
}
OTHERS = {
    "wide sac": (td.SAC(replay=REPLAY, num_envs=2, torso=WIDE), "gymnasium/Pendulum-v1"),
    "ppo with memory": (
        td.PPO(rollout_length=8, minibatch_size=16, core=td.GRU(width=8), **SMALL),
        "gymnasium/CartPole-v1",
    ),
    "ppo on pictures": (td.PPO(num_envs=2, rollout_length=8, minibatch_size=8), Pictures),
}


def trained(name, chunks, patch=lambda driver: None, runs=1):
    """The arrays of a run's whole state after its warm-up and as many iterations as the chunks have together."""
    algorithm, env = {**CASES, **OTHERS}[name]
    env = td.make(env)
    spec = td.Spec(env.observation_space, env.action_space, 1000)
    with HostDriver(algorithm, env, spec, [*range(runs)], workers="serial") as driver:
        patch(driver)
        state = driver.init(jax.vmap(random_key)(jnp.arange(runs, dtype=jnp.uint32)))
        if warm_iterations(algorithm):
            state = driver.advance(state, warm_iterations(algorithm), True)
        for n in chunks:
            state = driver.advance(state, n)
    return jax.device_get(jax.tree.leaves(state._replace(key=jax.random.key_data(state.key))))


def one_after_another(driver):
    """Every program ends before the next thing is done."""

    def waiting(f):
        return lambda *args: jax.block_until_ready(f(*args))

    driver._learn, driver._learn_and_add = waiting(driver._learn), waiting(driver._learn_and_add)
    for programs in (driver._act, driver._add):
        programs.update({warm: waiting(f) for warm, f in programs.items()})


@pytest.mark.parametrize("name", CASES)
def test_learning_beside_stepping_is_learning_before_it(name):
    jax.tree.map(np.testing.assert_array_equal, trained(name, [40]), trained(name, [40], one_after_another))


@pytest.mark.parametrize(
    ("name", "runs"),
    [*((name, 1) for name in CASES), *(pytest.param(name, 1, marks=pytest.mark.slow) for name in OTHERS), ("dqn", 2)],
)
def test_chunks_change_nothing(name, runs):
    whole, parts = (trained(name, chunks, runs=runs) for chunks in ([12], [1, 1, 7, 3]))
    jax.tree.map(np.testing.assert_array_equal, whole, parts)


@pytest.mark.parametrize("name", CASES)
def test_an_update_takes_the_storage_of_the_one_before_the_last(name):
    """All agents are held here, so that no address can come back by chance."""
    algorithm, env = CASES[name]
    env, held, where = td.make(env), [], []
    spec = td.Spec(env.observation_space, env.action_space, 1000)
    with HostDriver(algorithm, env, spec, [0], workers="serial") as driver:
        state = driver.init(jax.vmap(random_key)(jnp.zeros(1, jnp.uint32)))
        state = driver.advance(state, max(1, warm_iterations(algorithm)), bool(warm_iterations(algorithm)))
        for _ in range(6):
            state = driver.advance(state, 1)
            held.append(jax.tree.leaves(state.agent))
            where.append({x.unsafe_buffer_pointer() for x in held[-1]})
    assert where[:2] * 2 == where[2:]
    assert not where[0] & where[1]


class Listening(gymnasium.Env):
    """Writes down the actions that it gets."""

    observation_space, action_space = Box(-1, 1, (1,)), Box(0, 1000, (1,))

    def __init__(self):
        self.heard = []

    def reset(self, **_):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.heard.append(float(action[0]))
        return np.zeros(1, np.float32), 0.0, False, False, {}


@td.config
class Counter:
    """A memory that counts transitions."""

    warmup: int = 6

    def init(self, example):
        return jnp.int32(0)

    def add(self, memory, rollout):
        return memory + rollout.steps.reward.size

    def sample(self, memory, key):
        return memory


class Acting:
    """Its action is how often it has learned; it writes down what it learned from."""

    num_envs, rollout_length, replay_ratio = 1, 2, 1 / 2

    def init(self, key, spec):
        return jnp.int32(0), jnp.zeros(8, jnp.int32)

    def actor(self, state):
        return state[0]

    def carry(self, actor, n):
        return ()

    def act(self, actor, carry, now, key, explore):
        return jnp.full((1, 1), actor, jnp.float32), carry, {}


@td.config
class OffPolicy(Acting):
    replay: Counter = Counter()

    def update(self, state, batch, key):
        return (state[0] + 1, state[1].at[state[0]].set(batch)), {}


@td.config
class OnPolicy(Acting):
    def learn(self, state, rollout, key):
        first = rollout.steps.action[0, 0, 0].astype(jnp.int32)
        return (state[0] + 1, state[1].at[state[0]].set(first)), {}


@pytest.mark.parametrize(("algorithm", "learned_from"), [(OffPolicy(), [6, 8, 10, 12]), (OnPolicy(), [0, 1, 2, 3])])
def test_the_order_of_things(algorithm, learned_from):
    """What replays learns from the memory as it was before the rollout beside it; the other one from its rollout."""
    world = Listening()
    env, warm = td.make(world), warm_iterations(algorithm)
    with HostDriver(algorithm, env, td.Spec(env.observation_space, env.action_space, 100), [0]) as driver:
        state = driver.init(jax.vmap(random_key)(jnp.zeros(1, jnp.uint32)))
        state = driver.advance(state, warm, True) if warm else state
        world.heard.clear()
        state = driver.advance(driver.advance(state, 3), 1)
    assert world.heard == [0, 0, 1, 1, 2, 2, 3, 3]
    count, seen = jax.device_get(state.agent)
    assert count[0] == 4
    assert seen[0, :4].tolist() == learned_from


@td.config
class Failing(OffPolicy):
    def update(self, state, batch, key):
        return (state[0] + 1, state[1]), {"loss": jnp.where(state[0] == 2, jnp.nan, 0.0)}


@pytest.mark.parametrize("chunks", [[10], [4], [1, 3], [2, 2], [3]])
def test_nothing_comes_after_what_is_not_finite(chunks):
    """Neither a step with what was learned there, nor another update, though that was under way."""
    world, algorithm = Listening(), Failing()
    env, warm = td.make(world), warm_iterations(algorithm)
    with HostDriver(algorithm, env, td.Spec(env.observation_space, env.action_space, 100), [0]) as driver:
        state = driver.init(jax.vmap(random_key)(jnp.zeros(1, jnp.uint32)))
        state = driver.advance(state, warm, True)
        world.heard.clear()
        for n in chunks:
            state = driver.advance(state, n)
    assert world.heard == [0, 0, 1, 1, 2, 2]
    assert not state.tally.healthy().all()
    assert (int(state.agent[0][0]), int(state.iterations[0]), int(state.steps[0])) == (3, warm + 3, 2 * (warm + 3))


def test_nothing_is_learned_from_an_empty_memory():
    assert warm_iterations(OffPolicy(replay=Counter(warmup=0))) == 1


@td.config
class Drawing(OffPolicy):
    """Draws when it acts, and the same when it learns."""

    rollout_length: int = 1
    replay: Counter = Counter(warmup=1)

    def init(self, key, spec):
        return jnp.int32(0), jnp.zeros(8)

    def act(self, actor, carry, now, key, explore):
        return jax.random.uniform(key, (1, 1)), carry, {}

    def update(self, state, batch, key):
        return (state[0] + 1, state[1].at[state[0]].set(jax.random.uniform(key, (1, 1))[0, 0])), {}


def test_acting_and_learning_draw_apart():
    world, algorithm = Listening(), Drawing()
    env = td.make(world)
    with pytest.MonkeyPatch.context() as patch:  # the key that learning begins with, not what is split from it

        def spied(a, agent, memory, rollout, key):
            agent, metrics = a.update(agent, None, key)
            return agent, (), metrics

        patch.setattr(host, "improve", spied)
        with HostDriver(algorithm, env, td.Spec(env.observation_space, env.action_space, 100), [0]) as driver:
            state = driver.init(jax.vmap(random_key)(jnp.zeros(1, jnp.uint32)))
            state = driver.advance(state, 1, True)
            world.heard.clear()
            drawn = jax.device_get(driver.advance(state, 8).agent)[1][0].tolist()
    assert len({*np.float32(world.heard), *np.float32(drawn)}) == 16


@pytest.mark.parametrize(
    ("algorithm", "wide"),
    [
        (td.SAC(), True),
        (td.SAC(critics=16, torso=td.Torso(widths=(64, 64))), False),  # stacked they are many numbers
        (td.PPO(torso=td.Torso(widths=(120,) * 6)), False),  # whose optimiser has one long vector
        (td.PPO(torso=td.Torso(widths=(256, 256)), core=td.GRU(width=8)), True),
    ],
)
@pytest.mark.parametrize("avx512", [False, True])
def test_only_wide_layers_are_multiplied_by_eigen(algorithm, wide, avx512, monkeypatch):
    """And only where the CPU's vectors are short."""
    monkeypatch.setattr(program, "wide_vectors", lambda: avx512)
    env = td.make("Pendulum-v1")
    spec = td.Spec(env.observation_space, env.action_space, 1000)
    for runs in (1, 8):
        driver = ScanDriver(algorithm, env, spec, runs)
        assert options(driver.like().agent) == (EIGEN if wide and known(EIGEN) and not avx512 else {})


@pytest.mark.parametrize("brief", [program.BRIEF, {"an_option_of_another_compiler": True}])
def test_what_runs_once_does_whatever_the_compiler_knows(brief, monkeypatch):
    monkeypatch.setattr(program, "BRIEF", brief)
    there = jnp.arange(5.0)
    np.testing.assert_allclose(
        program.once(lambda: {"root": jnp.sqrt(there)})["root"], np.sqrt(np.arange(5)), rtol=1e-6
    )


def test_large_storage_is_filled_by_an_optimised_program(monkeypatch):
    """An option that no compiler knows shows who asks for it."""
    monkeypatch.setattr(program, "BRIEF", {"an_option_of_another_compiler": True})
    monkeypatch.setattr(program, "known", lambda options: True)
    monkeypatch.setattr(program, "LARGE", 4000)
    assert program.once(lambda: jnp.zeros(1000)).shape == (1000,)
    with pytest.raises(jax.errors.JaxRuntimeError, match="an_option_of_another_compiler"):
        program.once(lambda: jnp.zeros(999))
