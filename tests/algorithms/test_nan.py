"""NaN planted in a reward, an observation, a gradient, a parameter: the run stops with that update."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_contract import CASES, REPLAY, SMALL

import thorndike as td
from thorndike.algorithms.actor_critic import sac
from thorndike.configuration import Inner, config
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.offline import OfflineDriver
from thorndike.drivers.scan import ScanDriver
from thorndike.envs.wrappers.standard import Wrapped, Wrapper
from thorndike.memory.dataset import Dataset, Episode, write
from thorndike.ops.keys import random_key
from thorndike.runs.storage.environments import describe


def each(*long):
    """All cases; those whose name has one of these words among the slow tests."""
    return [pytest.param(n, marks=pytest.mark.slow) if any(word in n for word in long) else n for n in CASES]


PLANTED = 100.0  # the step, over all episodes, in which a NaN comes


@config
class Poisoned(Wrapper):
    """The reward or the observation is NaN after `at` steps in all, over episodes."""

    env: Inner
    reward: float = 1e9
    obs: float = 1e9

    @property
    def players(self):
        return getattr(self.env, "players", 1)

    def player(self, state):
        return self.env.player(state.inner)

    def reset(self, key):
        step = self.env.reset(key)
        return step._replace(state=Wrapped(step.state, jnp.float32(0)))

    def again(self, state, key):
        step = self.env.reset(key)
        return step._replace(state=Wrapped(step.state, state.mine))

    def step(self, state, action, key):
        step, t = self.env.step(state.inner, action, key), state.mine + 1
        spoil = lambda x: jnp.where(t == self.obs, jnp.nan, x)  # noqa: E731
        return step._replace(
            state=Wrapped(step.state, t),
            reward=jnp.where(t == self.reward, jnp.nan, step.reward),
            obs=spoil(step.obs) if jnp.issubdtype(step.obs.dtype, jnp.floating) else step.obs,
        )


def begun(name, wrap=None):
    """A driver and a state after its warm-up."""
    algorithm, env = CASES[name]
    env = td.make(env)
    env = env if wrap is None else wrap(env)
    driver = ScanDriver(algorithm, env, describe(env, 10_000, "test"), 1)
    state = driver.init(jax.vmap(random_key)(jnp.zeros(1, jnp.uint32)))
    warm = warm_iterations(algorithm)
    return driver, driver.advance(state, warm, True) if warm else state


def first_bad(state):
    """The iteration at which the first metric was not finite."""
    bad = np.asarray(state.tally.bad)
    assert (bad >= 0).any()
    return bad[bad >= 0].min()


@pytest.mark.parametrize("where", ["reward", "obs"])
@pytest.mark.parametrize("name", each("memory", "alphazero"))
def test_nan_of_the_environment(name, where):
    """The rollout in which it comes is the last. (A search of 4 looks 4 steps ahead, not into the rollout before.)"""
    algorithm, env = CASES[name]
    if where == "obs" and not hasattr(td.make(env).observation_space, "low"):
        pytest.skip("its observations are whole numbers")
    driver, state = begun(name, lambda env: Poisoned(env=env, **{where: PLANTED}))
    state = driver.advance(state, 200)
    assert first_bad(state) == (PLANTED - 1) // algorithm.rollout_length
    assert int(state.iterations[0]) == first_bad(state) + 1


@pytest.mark.parametrize("name", each("memory"))
def test_nan_in_a_gradient(name, monkeypatch):
    if "sarsa" in name or name == "q-learning":
        pytest.skip("it has no gradient")
    module = importlib.import_module(type(CASES[name][0]).__module__)
    descend = module.descend
    nan = lambda tree: jax.tree.map(lambda x: x * jnp.nan, tree)  # noqa: E731
    monkeypatch.setattr(module, "descend", lambda how, gradient, *rest: descend(how, nan(gradient), *rest))
    driver, state = begun(name)
    start = int(state.iterations[0])
    state = driver.advance(state, 5)
    assert first_bad(state) == start
    assert int(state.iterations[0]) == start + 1


@pytest.mark.parametrize("name", CASES)
def test_nan_in_any_parameter(name):
    """Each array of the agent in turn, those of its optimiser and its statistics too."""
    driver, state = begun(name)
    state = driver.advance(state, 2)  # SARSA has a step that waits then
    leaves, structure = jax.tree.flatten(jax.device_get(state._replace(key=jax.random.key_data(state.key))))
    implementation = jax.random.key_impl(state.key)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)]
    floats = [i for i, p in enumerate(paths) if p.startswith(".agent") and leaves[i].dtype.kind == "f"]
    assert floats
    start = int(state.iterations[0])
    for i in floats:
        spoilt = [np.full_like(x, np.nan) if j == i else x for j, x in enumerate(leaves)]
        fresh = jax.tree.unflatten(structure, spoilt)
        key = jax.random.wrap_key_data(fresh.key, impl=implementation)
        after = driver.advance(driver.place(fresh._replace(key=key)), 3)
        assert (np.asarray(after.tally.bad) >= 0).any(), paths[i]
        assert first_bad(after) == start, paths[i]


def poisoned_descend(monkeypatch, name):
    module = importlib.import_module(type(ELSEWHERE[name][0]).__module__)
    descend = module.descend
    nan = lambda tree: jax.tree.map(lambda x: x * jnp.nan, tree)  # noqa: E731
    monkeypatch.setattr(module, "descend", lambda how, gradient, *rest: descend(how, nan(gradient), *rest))


ELSEWHERE = {
    "ppo": (td.PPO(torso=SMALL, num_envs=2, rollout_length=8, minibatch_size=8), "gymnasium/Pendulum-v1"),
    "dqn": (td.DQN(torso=SMALL, replay=REPLAY, num_envs=2), "gymnasium/CartPole-v1"),
    "sac": (td.SAC(torso=SMALL, replay=REPLAY, num_envs=2), "gymnasium/Pendulum-v1"),
    "bc": (td.BC(torso=SMALL, batch_size=4), "Pendulum-v1"),
}


PARTS = {"critics": sac.Critic, "the actor": sac.Policy, "the temperature": jax.Array}


@pytest.mark.parametrize("part", PARTS)
def test_nan_in_one_of_several_gradients(part, monkeypatch, tmp_path):
    """SAC descends three times. Each time alone is noticed, before an environment is stepped with what it made."""
    descend = sac.descend

    def poisoned(how, gradient, state, params):
        factor = jnp.nan if isinstance(params, PARTS[part]) else 1.0
        return descend(how, jax.tree.map(lambda x: x * factor, gradient), state, params)

    monkeypatch.setattr(sac, "descend", poisoned)
    driver, state = elsewhere("sac", tmp_path)
    with driver:
        start = int(state.iterations[0])
        state = driver.advance(state, 40)
    assert first_bad(state) == start
    assert int(state.iterations[0]) == start + 1


def elsewhere(name, tmp_path):
    """A driver that is not all compiled, and a state after its warm-up."""
    algorithm, env = ELSEWHERE[name]
    env = td.make(env)
    spec, keys = describe(env, 10_000, "test"), jax.vmap(random_key)(jnp.zeros(1, jnp.uint32))
    if name == "bc":
        last = np.arange(8) == 7
        obs, actions = np.zeros((9, 3), np.float32), np.zeros((8, 1), np.float32)
        data = Dataset(write(tmp_path / "data", [Episode(obs, actions, np.ones(8), last & False, last)]))
        driver = OfflineDriver(algorithm, env, spec, 1, data, {})
        return driver, driver.init(keys)
    driver = HostDriver(algorithm, env, spec, [0], workers="serial")
    warm, state = warm_iterations(algorithm), driver.init(keys)
    return driver, driver.advance(state, warm, True) if warm else state


@pytest.mark.parametrize("name", ELSEWHERE)
def test_nan_on_the_host_and_from_a_dataset(name, monkeypatch, tmp_path):
    """The environment is not stepped with what such parameters say: the iteration is the last, and no environment's
    fault."""
    poisoned_descend(monkeypatch, name)
    driver, state = elsewhere(name, tmp_path)
    with driver:
        start = int(state.iterations[0])
        state = driver.advance(state, 40)
    assert first_bad(state) == start
    assert int(state.iterations[0]) == start + 1
