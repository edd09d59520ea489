"""Actors in threads: every rollout is learned from once, by parameters of a known age, and faults are told."""

from __future__ import annotations

import threading

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.drivers.asynchronous import AsyncDriver
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.storage.environments import describe

SMALL = {"torso": td.Torso(widths=(8,)), "num_envs": 2, "rollout_length": 4, "learning_rate": 1e-3}


class Counts(gymnasium.Env):
    """Episodes of five steps, reward 1 each; it fails in a step of one's choice."""

    observation_space, action_space = Box(0, 10, (1,)), Discrete(2)
    fails = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        if self.t == self.fails:
            raise RuntimeError("the motor is hot")
        return np.full(1, self.t, np.float32), 1.0, self.t == 5, False, {}


class Fails(Counts):
    fails = 3


def driver_for(algorithm, env=Counts, seeds=(0,)):
    made = td.make(env)
    return AsyncDriver(expand(algorithm, len(seeds)), made, describe(made, 10_000, "test"), list(seeds))


def begin(driver):
    return driver.init(jax.vmap(random_key)(jnp.zeros(1, jnp.uint32)))


@pytest.mark.parametrize("algorithm", [td.IMPALA(**SMALL, actors=3), td.A3C(**SMALL, actors=3)], ids=["impala", "a3c"])
def test_every_rollout_is_learned_from_once(algorithm):
    """The count of steps, of updates and of episodes, over two calls; parameters were older than the newest."""
    before = threading.active_count()
    with driver_for(algorithm) as driver:
        like = driver.like()
        state = driver.advance(driver.advance(begin(driver), 7), 23)
        assert jax.tree.structure(like) == jax.tree.structure(state)
        assert threading.active_count() >= before + 3
    assert threading.active_count() <= before + 1
    assert int(state.iterations[0]) == driver.version == 30
    assert int(state.steps[0]) == 30 * 2 * 4
    if isinstance(algorithm, td.IMPALA):
        assert int(state.agent.updates[0]) == 30
    staleness = float(state.tally.of("train/staleness", state.tally.sums)[0]) / 30
    assert 0 < staleness <= 2 * 3 + 1
    assert np.isfinite(state.tally.sums).all()
    lengths = np.asarray(state.episodes.lengths[0])[: int(state.episodes.count[0])]
    assert len(lengths) > 30  # about a fifth of the steps
    assert (lengths == 5).all()  # episodes of different actors are not mixed


def test_the_returns_so_far_of_different_actors_are_not_mixed(monkeypatch):
    """The statistics that scale rewards, against a loop over the rollouts of each actor; episodes span two of them."""
    rollouts, following = {}, AsyncDriver._next

    def watched(self):
        found = following(self)
        rollouts.setdefault(found.actor, []).append(jax.tree.map(lambda x: x[0], found.rollout.steps))
        return found

    monkeypatch.setattr(AsyncDriver, "_next", watched)
    with driver_for(td.A3C(**SMALL, actors=3, discount=0.9)) as driver:
        state = driver.advance(driver.advance(begin(driver), 5), 10)
    seen = []
    for several in rollouts.values():
        total = np.zeros(2)
        for reward, ended in ((x.reward[t], x.ended[t]) for x in several for t in range(4)):
            total = reward + 0.9 * total
            seen.append(total)
            total = np.where(ended, 0.0, total)
    assert len(rollouts) > 1
    assert float(state.agent.scaling.returns.mean[0]) == pytest.approx(np.mean(seen), rel=1e-5)
    assert float(state.agent.scaling.returns.var[0]) == pytest.approx(np.var(seen), rel=1e-4)


def test_nobody_acts_by_parameters_that_are_not_finite(monkeypatch):
    """The learner's last update is not handed out where a metric was not finite."""
    apply = td.A3C.apply

    def broken(self, state, gradient):
        state, _ = apply(self, state, gradient)
        return state._replace(params=jax.tree.map(lambda x: x * jnp.nan, state.params)), {"update_norm": jnp.nan}

    monkeypatch.setattr(td.A3C, "apply", broken)
    with driver_for(td.A3C(**SMALL, actors=2)) as driver:
        state = driver.advance(begin(driver), 5)
        assert int(state.iterations[0]) == 1
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(driver.newest.agent.tree.params))


def test_keys_of_actors_are_no_keys_of_the_learner(monkeypatch):
    """Nor of anything else that is made from the run's key by splitting it."""
    keys = []
    monkeypatch.setattr(AsyncDriver, "_act", lambda self, k, carry, key: keys.append(jax.random.key_data(key[0])))
    with driver_for(td.A3C(**SMALL, actors=3)) as driver:
        state = begin(driver)
        driver._publish(None, None)
        driver._begin(state)
    split = np.asarray(jax.random.key_data(jax.random.split(state.key[0], 8))).tolist()
    assert len({tuple(map(int, key)) for key in keys}) == 3
    assert not [key for key in keys if np.asarray(key).tolist() in split]


def test_an_actors_fault_is_raised():
    with driver_for(td.IMPALA(**SMALL, actors=2), Fails) as driver, pytest.raises(td.EnvError, match="is hot"):
        driver.advance(begin(driver), 20)


def test_refusals():
    with pytest.raises(td.ConfigError, match="one seed at a time"):
        driver_for(td.A3C(**SMALL), seeds=(0, 1))
    spec = describe(td.make("CartPole-v1"), 100, "CartPole-v1")
    assert "gymnasium/CartPole-v1" in td.A3C().supports(spec)
    assert "gymnasium/CartPole-v1" in td.IMPALA(actors=2).supports(spec)
    assert td.A3C(actors=0).supports(spec) is None
    with pytest.raises(td.ConfigError, match="lag"):
        td.IMPALA(actors=2, lag=1).check()


def test_it_is_a_run(tmp_path):
    """Trained by name in a directory of its own, and resumed."""
    run = td.train(td.A3C(**SMALL, actors=2), Counts, 160, out=tmp_path / "run", progress=False)
    assert run.status["steps"] == 160
    assert "train/staleness" in run.metrics()
    assert td.resume(tmp_path / "run", env=Counts, steps=320, progress=False).status["steps"] == 320
