"""Evaluation: its cap, Ctrl-C, and numbers of a sweep that acting reads, on both paths."""

from __future__ import annotations

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.drivers import evaluate as evaluation

TORSO = td.Torso(widths=(4,))


@td.config
class Endless:
    """No episode ends."""

    max_steps: int = 2**31 - 1
    observation_space, action_space = Box(-1, 1, (1,)), Discrete(2)

    def reset(self, key):
        return td.Step(jnp.int32(0), jnp.zeros(1))

    def step(self, state, action, key):
        return td.Step(state + 1, jnp.zeros(1), 1.0)


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    algorithm = td.PPO(num_envs=2, rollout_length=8, minibatch_size=16, torso=TORSO)
    return td.train(algorithm, Endless(), 16, out=tmp_path_factory.mktemp("endless") / "run", progress=False)


def test_an_episode_without_an_end_is_named(endless, monkeypatch):
    monkeypatch.setattr(evaluation, "LONGEST", 5_000)
    with pytest.raises(
        td.EnvError, match=r"\(Endless\) has no time limit, .* not ended in 5,000 steps: give it max_st"
    ):
        endless.evaluate(2)


def test_ctrl_c_is_heard(endless, monkeypatch):
    monkeypatch.setattr(evaluation, "LONGEST", 5_000)
    with pytest.raises(td.EnvError):  # compiled now: an interrupt within a callback of the compiler can get lost
        endless.evaluate(2)
    monkeypatch.setattr(evaluation, "LONGEST", 10**9)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        endless.evaluate(2)
    timer.join()


@td.config
class Shifted(td.PPO):
    """Its action is a hyperparameter."""

    shift: float = 0.0

    def act(self, actor, carry, now, key, explore):
        action, carry, extras = super().act(actor, carry, now, key, explore)
        return 0.0 * action + self.shift, carry, extras


@pytest.mark.parametrize("env", ["Pendulum-v1", "gymnasium/Pendulum-v1"])
def test_each_configuration_acts_by_its_own_numbers(env, tmp_path):
    sweep = Shifted(shift=np.array([-2.0, 0.0, 2.0]), num_envs=2, rollout_length=8, minibatch_size=16, torso=TORSO)
    run = td.train(sweep, env, 16, out=tmp_path / "run", progress=False)
    found = run.evaluate(4).returns
    for i, shift in enumerate((-2.0, 0.0, 2.0)):
        alone = Shifted(shift=shift, num_envs=2, rollout_length=8, minibatch_size=16, torso=TORSO)
        actor = jax.tree.map(lambda x, i=i: x[i : i + 1], run.actors())
        np.testing.assert_allclose(found[i], td.evaluate(alone, actor, run.env, 4).returns[0], rtol=1e-5)
    assert len({tuple(row) for row in found.round(3).tolist()}) == 3


def test_exploring_is_another_policy(tmp_path):
    algorithm = td.PPO(num_envs=2, rollout_length=8, minibatch_size=16, torso=TORSO)
    run = td.train(algorithm, "CartPole-v1", 16, out=tmp_path / "run", progress=False)
    assert (run.evaluate(5).returns == run.evaluate(5).returns).all()
    assert (run.evaluate(5).returns != run.evaluate(5, explore=True).returns).any()
