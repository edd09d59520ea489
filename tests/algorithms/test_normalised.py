"""Observations normalised by their running mean and variance, in the algorithms that learn from batches."""

from __future__ import annotations

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.algorithms.actor_critic import sac
from thorndike.algorithms.offline import bc
from thorndike.algorithms.value import dqn
from thorndike.ops.statistics import normalise_tree, update_tree
from thorndike.types import Rollout, Timestep, Transition

SMALL = td.Torso(widths=(8,))
SPECS = {env: td.Spec(env.observation_space, env.action_space, 1000) for env in (td.CartPole(), td.Pendulum())}
CARTPOLE, PENDULUM = SPECS.values()
CASES = {
    "dqn": (td.DQN(learning_rate=1e-3, torso=SMALL, normalize_observation=True), CARTPOLE, dqn),
    "dqn with memory": (
        td.DQN(
            learning_rate=1e-3,
            torso=SMALL,
            core=td.GRU(width=4),
            replay=td.Sequences(),
            rollout_length=4,
            normalize_observation=True,
        ),
        CARTPOLE,
        dqn,
    ),
    "sac": (td.SAC(torso=SMALL, normalize_observation=True), PENDULUM, sac),
    "bc": (td.BC(torso=SMALL, normalize_observation=True), PENDULUM, bc),
}
UNITS, ORIGIN = 50.0, 300.0
BATCH, UPDATES = 32, 4


def batches(name: str, units: float = 1.0, origin: float = 0.0):
    """Random experience, its observations in units of one's choice."""
    algorithm, spec, _ = CASES[name]
    rng, sequences = np.random.default_rng(0), name == "dqn with memory"
    shape = (algorithm.rollout_length, BATCH) if sequences else (BATCH,)
    for _ in range(UPDATES):
        obs, after = (units * rng.normal(1, 2, (*shape, *spec.observation.shape)) + origin for _ in range(2))
        obs, after = jnp.float32(obs), jnp.float32(after)
        discrete = spec.action.shape == ()
        action = rng.integers(0, 2, shape) if discrete else np.float32(rng.uniform(-1, 1, (*shape, 1)))
        reward, terminated, first = np.float32(rng.normal(size=shape)), rng.random(shape) < 0.2, rng.random(shape) < 0.2
        steps = Transition(obs, first, jnp.asarray(action), {}, reward, terminated, (), after, {})
        yield Rollout(steps, algorithm.carry(None, BATCH), ()) if sequences else steps


def trained(name: str, algorithm=None, **how):
    """The state after a few updates."""
    algorithm = algorithm or CASES[name][0]
    state, update = beginning(algorithm, CASES[name][1]), jax.jit(algorithm.update)
    for i, batch in enumerate(batches(name, **how)):
        state, _ = update(state, batch, jax.random.key(i))
    return state


@cache
def right(name: str, units: float = 1.0, origin: float = 0.0):
    """Trained with nothing replaced."""
    return trained(name, units=units, origin=origin)


def beginning(algorithm, spec):
    return jax.jit(lambda key: algorithm.init(key, spec))(jax.random.key(0))


def parameters(state) -> list[np.ndarray]:
    """All that changes but the statistics."""
    return [np.asarray(x) for x in jax.tree.leaves(state._replace(statistics=()))]


def apart(a, b) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(parameters(a), parameters(b)))


@pytest.mark.parametrize("name", CASES)
def test_the_statistics_are_those_of_what_was_learned_from(name):
    seen = [b.steps.obs if isinstance(b, Rollout) else b.obs for b in batches(name)]
    seen = np.concatenate([np.asarray(x).reshape(-1, x.shape[-1]) for x in seen])
    statistics = right(name).statistics
    np.testing.assert_allclose(statistics.mean, seen.mean(0), rtol=1e-3)
    np.testing.assert_allclose(statistics.var, seen.var(0), rtol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_learning_and_acting_do_not_depend_on_the_units(name):
    algorithm, spec, _ = CASES[name]
    plain, odd = right(name), right(name, UNITS, ORIGIN)
    assert apart(plain, odd) < 1e-4
    assert apart(plain, beginning(algorithm, spec)) > 1e-3
    obs = jnp.float32(np.random.default_rng(1).normal(1, 2, (BATCH, *spec.observation.shape)))
    no, zero = jnp.zeros(BATCH, bool), jnp.zeros(BATCH)

    def acts(state, obs, explore):
        now = Timestep(obs, zero, no, no, obs, no, {})
        return algorithm.act(algorithm.actor(state), algorithm.carry(None, BATCH), now, jax.random.key(2), explore)[0]

    for explore in (False, True):
        np.testing.assert_allclose(acts(plain, obs, explore), acts(odd, UNITS * obs + ORIGIN, explore), atol=1e-3)
    if spec is PENDULUM:
        assert np.abs(acts(plain, obs, False) - acts(odd, obs, False)).max() > 1e-2


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("dqn with memory", "sac")]


@pytest.mark.parametrize("name", ["dqn", "bc", *LONG])
def test_without_it_they_do(name):
    algorithm = dataclasses.replace(CASES[name][0], normalize_observation=False)
    plain, odd = (trained(name, algorithm, **how) for how in ({}, {"units": UNITS, "origin": ORIGIN}))
    assert plain.statistics == ()
    assert apart(plain, odd) > 1e-3


def successors_as_they_are(statistics, steps):
    statistics = update_tree(statistics, steps.obs)
    return statistics, steps._replace(obs=normalise_tree(statistics, steps.obs))


def learned_from_as_they_are(statistics, steps):
    return update_tree(statistics, steps.obs), steps


@pytest.mark.parametrize(
    ("name", "bug"),
    [(name, learned_from_as_they_are) for name in CASES]
    + [(name, successors_as_they_are) for name in CASES if name != "bc"],  # which does not look at successors
)
def test_bugs_depend_on_them(name, bug, monkeypatch):
    monkeypatch.setattr(CASES[name][2], "observed", bug)
    assert apart(trained(name), trained(name, units=UNITS, origin=ORIGIN)) > 1e-3
