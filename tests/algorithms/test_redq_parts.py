"""What REDQ and DroQ add to SAC, in closed form: subsets of critics, their mean, the delay, dropout everywhere."""

from __future__ import annotations

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.algorithms.actor_critic import sac
from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.ops.optimise import delayed
from thorndike.types import Transition

ENV = td.Pendulum()
SPEC = td.Spec(ENV.observation_space, ENV.action_space, 1000)
NET = td.Torso(widths=(8,))
REDQ = td.REDQ(torso=NET, critics=5, subset=2, delay=3, discount=0.9, temperature=0.5)
DROPS = td.Torso(widths=(32,), norm="layer", dropout=0.5)
DROQ = td.DroQ(torso=NET, critic_torso=DROPS, delay=1, learning_rate=1e-2)


def batch(n=6):
    rng = np.random.default_rng(0)
    obs, after, action = (jnp.asarray(rng.normal(size=(n, k)), jnp.float32) for k in (3, 3, 1))
    reward, terminated = jnp.asarray(rng.normal(size=n), jnp.float32), jnp.arange(n) % 2 == 1
    return Transition(obs, (), action, {}, reward, terminated, (), after, {})


class Says:
    """A policy that always has the same action and log-probability."""

    def __call__(self, obs):
        return self

    def sample_and_log_prob(self, key):
        return jnp.zeros((6, 1)), jnp.full(6, 0.2)


class Judges(eqx.Module):
    """Critics of our choice."""

    values: jax.Array  # [N, B]

    def __call__(self, obs, action):
        return self.values


Q = jnp.arange(30.0).reshape(5, 6) * jnp.asarray([[1.0], [-1], [0.5], [2], [-0.3]])


def expected_target():
    """r + γ (1 - terminated) (E[min of two different critics] - α log π), over all pairs."""
    least = np.mean([np.minimum(Q[i], Q[j]) for i, j in itertools.combinations(range(5), 2)], 0)
    data = batch()
    return data.reward + 0.9 * (1 - data.terminated) * (least - 0.5 * 0.2)


def mean_target(algorithm=REDQ, draws=4000):
    state = REDQ.init(jax.random.key(0), SPEC)._replace(policy=Says(), targets=Judges(Q))
    keys = jax.random.split(jax.random.key(1), draws)
    return np.asarray(jax.vmap(lambda key: algorithm.target(state, batch(), key))(keys)).mean(0)


def test_the_target_takes_the_least_of_a_random_pair():
    np.testing.assert_allclose(mean_target(), expected_target(), atol=0.5)


@pytest.mark.parametrize("subset", [1, 3, None])
def test_subsets_of_another_size_miss_it(subset):
    found = mean_target(dataclasses.replace(REDQ, subset=subset))
    assert np.abs(found - expected_target()).max() > 2  # four of the tolerances above


def test_a_subset_has_no_critic_twice():
    """Of two critics a pair is both."""
    values = Judges(Q[:2])
    state = REDQ.init(jax.random.key(0), SPEC)._replace(policy=Says(), targets=values)
    algorithm = dataclasses.replace(REDQ, critics=2)
    data = batch()
    expected = data.reward + 0.9 * (1 - data.terminated) * (np.minimum(Q[0], Q[1]) - 0.5 * 0.2)
    for key in range(5):
        np.testing.assert_allclose(algorithm.target(state, data, jax.random.key(key)), expected, rtol=1e-5)


@pytest.mark.parametrize(("over", "expected"), [("mean", Q.mean(0)), ("min", Q.min(0))])
def test_the_policy_climbs_the_mean_of_all(over, expected):
    algorithm = dataclasses.replace(REDQ, actor_over=over)
    loss, _ = algorithm.actor_loss(Says(), Judges(Q), 0.5, batch(), jax.random.key(0))
    np.testing.assert_allclose(loss, np.mean(0.5 * 0.2 - expected), rtol=1e-5)
    assert td.REDQ().actor_over == td.DroQ().actor_over == "mean"


def differ(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def test_policy_and_temperature_are_delayed():
    """The critics and their targets move in every update, these in each third."""
    algorithm = dataclasses.replace(REDQ, temperature=None)
    state, seen = algorithm.init(jax.random.key(0), SPEC), []
    update = jax.jit(algorithm.update)
    for i in range(6):
        after, metrics = update(state, batch(), jax.random.key(i))
        moved = {name: differ(getattr(state, name), getattr(after, name)) for name in state._fields}
        assert moved["critics"]
        assert moved["targets"]
        assert moved["policy"] == moved["log_temperature"] == bool(metrics["actor_loss"] != 0)
        seen.append(moved["policy"])
        state = after
    assert seen == [False, False, True] * 2


def test_delayed_metrics_have_the_mean_of_the_improvements():
    improve = lambda: ((jnp.float32(7),), {"loss": jnp.float32(5)})  # noqa: E731
    steps = [delayed(jnp.int32(i), 4, improve, (jnp.float32(0),)) for i in range(1, 9)]
    assert [float(parts[0]) for parts, _ in steps] == [0, 0, 0, 7] * 2
    assert np.mean([metrics["loss"] for _, metrics in steps]) == 5


def dropping(part, monkeypatch):
    """Whether one part of an update gives other numbers for other keys of dropout alone."""
    state, data = DROQ.init(jax.random.key(0), SPEC), batch()
    action = jnp.zeros((6, 1))
    state = state._replace(policy=Says())
    found = []
    for seed in range(2):
        key = jax.random.key(seed)
        if part == "target":
            found.append(DROQ.target(state, data, key))
        elif part == "critics":
            found.append(DROQ.critic_loss(state.critics, data, action, jnp.zeros(6), DROQ.noise(key))[0])
        else:
            found.append(DROQ.actor_loss(state.policy, state.critics, 0.1, data, key)[0])
    return not np.array_equal(*found)


@pytest.mark.parametrize("part", ["target", "critics", "actor"])
def test_units_are_dropped_in_every_pass(part, monkeypatch):
    assert dropping(part, monkeypatch)
    monkeypatch.setattr(td.DroQ, "noise", lambda self, key: None)
    assert not dropping(part, monkeypatch)


def test_an_update_drops_units_of_the_critics_it_fits(monkeypatch):
    keys, right = [], td.DroQ.critic_loss

    def note(self, *args):
        keys.append(args[-1])
        return right(self, *args)

    monkeypatch.setattr(td.DroQ, "critic_loss", note)
    DROQ.update(DROQ.init(jax.random.key(0), SPEC), batch(), jax.random.key(0))
    assert keys[0] is not None


def test_critics_drop_other_units():
    """Two equal critics with one key each say different things, and without a key the same."""
    one = DROQ.init(jax.random.key(0), SPEC).critics
    twins = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), one)
    data, action = batch(), jnp.zeros((6, 1))
    assert not np.array_equal(*sac.values(twins, data.obs, action, jax.random.key(0)))
    np.testing.assert_array_equal(*sac.values(twins, data.obs, action))


def test_bad_numbers_are_refused():
    drops = td.Torso(dropout=0.1)
    for bad in (td.SAC(subset=3), td.REDQ(subset=0), td.SAC(torso=drops), td.DroQ(torso=drops), td.SAC(delay=0)):
        with pytest.raises(ConfigError):
            check(bad)
    check(td.SAC(critic_torso=drops))
