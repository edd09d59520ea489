"""The small cases of every algorithm, their drivers, and one environment wrapper that can spoil what it shows."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.algorithms import algorithm_class, entries
from thorndike.configuration import Inner, config
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.scan import ScanDriver
from thorndike.envs.wrappers.base import Wrapped, Wrapper
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.results.given import bound
from thorndike.runs.storage.environments import describe


def _named():
    for name in entries():
        for kind, case in algorithm_class(name).small().items():
            yield f"{name} {kind}".strip(), case


ALL = dict(_named())
OFFLINE = {name: case for name, case in ALL.items() if getattr(case[0], "offline", False)}
CASES = {name: case for name, case in ALL.items() if name not in OFFLINE}  # those that act while they learn
NEVER = 1e9
PLAN = 200  # steps: schedules go on from the first to the last


def slow_if(*words):
    """The names of all cases, as parameters; those with one of these words in them are slow tests."""
    return [pytest.param(n, marks=pytest.mark.slow) if any(word in n for word in words) else n for n in CASES]


@config
class Poisoned(Wrapper):
    """The reward or the observation is NaN after so many steps in all, over episodes; by default never."""

    env: Inner
    reward: float = NEVER
    obs: float = NEVER

    @property
    def players(self):
        return getattr(self.env, "players", 1)

    @property
    def transitions(self):
        return self.env.transitions

    @property
    def task(self):
        return self.env.task

    @property
    def task_of(self):
        inner = self.env.task_of
        return lambda state: inner(state.inner)

    @property
    def begin(self):
        inner = self.env.begin
        return lambda task, key: self._begun(inner(task, key))

    def player(self, state):
        return self.env.player(state.inner)

    def _begun(self, step):
        return step._replace(state=Wrapped(step.state, jnp.float32(0)))

    def reset(self, key):
        return self._begun(self.env.reset(key))

    def again(self, state, key):
        step = self.env.reset(key)
        return step._replace(state=Wrapped(step.state, state.mine))

    def step(self, state, action, key):
        step, t = self.env.step(state.inner, action, key), state.mine + 1
        spoil = lambda x: jnp.where(t == self.obs, jnp.nan, x) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
        return step._replace(
            state=Wrapped(step.state, t),
            reward=jnp.where(t == self.reward, jnp.nan, step.reward),
            obs=jax.tree.map(spoil, step.obs),
        )


def driver_for(name, runs=1, **poison):
    """A driver of one case, traced and compiled anew."""
    algorithm, env = CASES[name]
    env = Poisoned(env=td.make(env), **poison)
    spec = describe(env, PLAN, "test")
    return ScanDriver(given(expand(algorithm, runs), spec), env, spec, runs)


def given(algorithm, spec):
    """The algorithm with an untrained agent for whatever it takes."""
    ppo = td.PPO(torso=td.Torso(widths=(8,)))
    agent = td.Agent(ppo, spec, ppo.actor(ppo.init(random_key(7), spec)))
    return bound(algorithm, {name: (agent,) for name in getattr(algorithm, "takes", ())}, spec)


@cache
def shared(name):
    """The driver of one case with one run: traced and compiled once for all tests that ask for it."""
    return driver_for(name)


def changed(name, algorithm=None, **poison):
    """The shared driver's programs for other numbers in the algorithm or in `Poisoned`: nothing is compiled again."""
    compiled = shared(name)
    for warm in {warm_iterations(compiled.algorithm) > 0, False}:
        compiled.compile(warm)
    driver = driver_for(name, **poison)
    if algorithm is not None:
        driver.algorithm = given(expand(algorithm, 1), driver.spec)
    driver._shapes, driver._compiled = compiled._shapes, compiled._compiled
    return driver


@cache
def start_of(name):
    """The state of one case after its warm-up, in the host's memory."""
    return jax.device_get(_bits(begin(shared(name))))


def started(name, driver):
    """That state, placed for a driver."""
    state = start_of(name)
    return driver.place(state._replace(key=jax.random.wrap_key_data(jnp.asarray(state.key), impl=_kind())))


def begin(driver, seeds=(0,)):
    """A state after the warm-up."""
    state = driver.init(jax.vmap(random_key)(jnp.asarray(seeds, jnp.uint32)))
    warm = warm_iterations(driver.algorithm)
    return driver.advance(state, warm, True) if warm else state


def _bits(state):
    return state._replace(key=jax.random.key_data(state.key))


def _kind():
    return jax.random.key_impl(random_key(0))


def arrays(tree):
    """The leaves of a tree as NumPy arrays; keys as their bits."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(tree)]
