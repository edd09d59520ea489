"""State-dependent exploration in SAC: its variance in closed form, and how long its noise lasts."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import thorndike as td
from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.types import Timestep

ENV = td.Pendulum()
SPEC = td.Spec(ENV.observation_space, ENV.action_space, 1000)
ALGORITHM = td.SAC(
    torso=td.Torso(widths=(8,), activation="relu", init="uniform"), exploration=td.StateDependent(every=4, log_std=-0.7)
)
ACTOR = ALGORITHM.actor(ALGORITHM.init(jax.random.key(0), SPEC))
STATES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
MANY = 20_000


def seen(obs, first=False):
    n = len(obs)
    no = jnp.zeros(n, bool)
    return Timestep(jnp.asarray(obs), jnp.zeros(n), no, no, jnp.asarray(obs), no | first, {})


def played(obs, carry, key, first=False):
    """Actions before the tanh [E], and the carry."""
    action, carry, _ = ALGORITHM.act(ACTOR, carry, seen(obs, first), jax.random.key(key), True)
    return np.arctanh(np.clip(np.asarray(action)[:, 0] / 2.0, -1 + 1e-6, 1 - 1e-6)), carry


@pytest.mark.parametrize("row", range(3))
def test_actions_are_drawn_from_the_distribution_that_learning_sees(row):
    """u ~ N(μ(s), Σ_i φ_i(s)² σ_i²), over many draws of ε."""
    obs = np.repeat(STATES[row : row + 1], MANY, 0)
    u, _ = played(obs, ALGORITHM.carry(ACTOR, MANY), 0)
    features = np.asarray(ACTOR.policy.torso(STATES[row]))
    variance = (features**2 * np.exp(2 * -0.7)).sum()
    pi = ACTOR.policy(STATES[row])
    np.testing.assert_allclose(np.exp(2 * pi.log_std[0]), variance, rtol=1e-3)
    assert scipy.stats.kstest(u, scipy.stats.norm(float(pi.mean[0]), np.sqrt(variance)).cdf).pvalue > 1e-3


def test_between_two_draws_an_action_is_a_function_of_the_state():
    """The same state gives the same action for `every` steps, whatever the keys, and others after a draw."""
    carry, actions = ALGORITHM.carry(ACTOR, 5), []
    for t in range(9):
        u, carry = played(STATES, carry, t, first=t == 0)
        actions.append(u)
    same = [np.array_equal(a, b) for a, b in itertools.pairwise(actions)]
    assert same == [True, True, True, False, True, True, True, False]


def test_an_episode_begins_with_a_draw_of_its_own():
    _, carry = played(STATES, ALGORITHM.carry(ACTOR, 5), 0)
    first = jnp.asarray([True, False, False, False, True])
    _, after = played(STATES, carry, 1, first=first)
    moved = (np.asarray(after.noise) != np.asarray(carry.noise)).any((1, 2))
    np.testing.assert_array_equal(moved, first)
    np.testing.assert_array_equal(after.age, [1, 2, 2, 2, 1])


def test_evaluation_is_without_noise():
    carry = ALGORITHM.carry(ACTOR, 5)
    action, after, _ = ALGORITHM.act(ACTOR, carry, seen(STATES), jax.random.key(0), False)
    np.testing.assert_allclose(action, 2 * jnp.tanh(ACTOR.policy(STATES).mean), rtol=1e-5)
    np.testing.assert_array_equal(after.noise, carry.noise)


def test_the_deviations_are_learned():
    """Where entropy is all there is to gain, σ grows."""
    from thorndike.types import Transition

    depends = td.StateDependent(log_std=-3.0)
    algorithm = td.SAC(torso=ALGORITHM.torso, exploration=depends, temperature=1.0, learning_rate=1e-2)
    state, no = algorithm.init(jax.random.key(0), SPEC), jnp.zeros(5, bool)
    data = Transition(STATES, (), jnp.zeros((5, 1)), {}, jnp.zeros(5), no, (), STATES, {})
    after, _ = jax.jit(algorithm.update)(state, data, jax.random.key(0))
    assert (after.policy.log_std >= state.policy.log_std).all()
    assert (after.policy.log_std > state.policy.log_std + 5e-3).any()


def test_bad_numbers_are_refused():
    with pytest.raises(ConfigError, match="every"):
        check(td.SAC(exploration=td.StateDependent(every=0)))
