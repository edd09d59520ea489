"""NaN planted in gradients, on every path: the run stops with that update.

For NaN in rewards, observations and parameters see `test_contract.py`.
"""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, begin, driver_for, slow_if

import thorndike as td
from thorndike.algorithms.actor_critic import sac
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.offline import OfflineDriver
from thorndike.memory.dataset import Dataset, Episode, write
from thorndike.ops.keys import random_key
from thorndike.runs.storage.environments import describe

SMALL = td.Torso(widths=(16, 16))
REPLAY = td.Uniform(capacity=200, batch_size=16, warmup=32)


def first_bad(state):
    """The iteration at which the first metric was not finite."""
    bad = np.asarray(state.tally.bad)
    assert (bad >= 0).any()
    return bad[bad >= 0].min()


@pytest.mark.parametrize("name", slow_if(*(name for name in CASES if name not in ("dqn", "ppo"))))
def test_nan_in_a_gradient(name, monkeypatch):
    module = importlib.import_module(type(CASES[name][0]).__module__)
    if not hasattr(module, "descend"):
        pytest.skip("it has no gradient")
    descend = module.descend
    nan = lambda tree: jax.tree.map(lambda x: x * jnp.nan, tree)  # noqa: E731
    monkeypatch.setattr(module, "descend", lambda how, gradient, *rest: descend(how, nan(gradient), *rest))
    driver = driver_for(name)
    state = begin(driver)
    start = int(state.iterations[0])
    state = driver.advance(state, 5)
    assert first_bad(state) == start
    assert int(state.iterations[0]) == start + 1


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
        driver = OfflineDriver(algorithm, spec, 1, data)
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
