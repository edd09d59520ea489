"""What double targets, noise, and memory are for: tasks that plain DQN fails, and the bugs that fail with it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from trained import trained

import thorndike as td
from thorndike.algorithms.value import dqn
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.scan import ScanDriver
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.storage.environments import describe
from thorndike.runs.training.setup import choose
from thorndike.types import Step


@td.config
class MaximisationBias:
    """Sutton & Barto 2018, example 6.7: left leads to ten actions with rewards N(-0.1, 1), right to the end and 0."""

    max_steps: int = 10

    @property
    def observation_space(self):
        return Discrete(2)

    @property
    def action_space(self):
        return Discrete(10)

    def step_at(self, state, reward=0.0, terminated=False):
        mask = (state == 1) | (jnp.arange(10) < 2)
        return Step(state, state, reward, terminated, {"mask": mask})

    def reset(self, key):
        return self.step_at(jnp.int32(0))

    def step(self, state, action, key):
        left = (state == 0) & (action == 0)
        reward = jnp.where(state == 1, -0.1 + jax.random.normal(key), 0.0)
        return self.step_at(jnp.where(left, 1, state).astype(jnp.int32), reward, ~left)


def lefts(double, chains=60):
    """The share of left among the choices of episodes 150 to 300 or so, of many chains; 5% is the best."""
    algorithm = td.DQN(
        torso=td.Torso(widths=(), init="uniform"), double=double, discount=1.0, learning_rate=0.1, replay_ratio=1.0,
        target_period=75, exploration=td.Epsilon(start=0.1, end=None), num_envs=1, normalize_observation=False,
        replay=td.Uniform(capacity=1, batch_size=1, warmup=1),
    )  # fmt: skip
    env = MaximisationBias()
    driver = ScanDriver(expand(algorithm, chains), env, describe(env, 10_000, "test"), chains)
    state = driver.init(jax.vmap(random_key)(jnp.arange(chains, dtype=jnp.uint32)))
    state = driver.advance(driver.advance(state, warm_iterations(algorithm), True), 200)
    zero = jnp.zeros((1, 1), jnp.int32), jnp.zeros((1, 1), bool), ()
    said = jax.jit(jax.vmap(lambda q: q(*zero)[0][0, 0, :2]))
    shares = []
    for _ in range(23):
        state = driver.advance(state, 10)
        left, right = np.asarray(said(state.agent.q)).T
        shares.append(np.where(left > right, 0.95, np.where(left < right, 0.05, 0.5)))
    return 100 * np.mean(shares)


def check_bias():
    """Reference: a target copied every 75 updates leaves plain targets at 52% and double ones at 19%."""
    assert lefts(True) <= 27


def test_double_targets_do_not_overestimate():
    check_bias()


@pytest.mark.parametrize("mutant", ["plain", "chosen by the target"])
def test_overestimation_is_noticed(mutant, monkeypatch):
    if mutant == "plain":
        assert lefts(False) >= 40
        return
    target = td.DQN.target
    wrong = lambda self, frozen, online, *rest: target(self, frozen, frozen, *rest)  # noqa: E731
    monkeypatch.setattr(td.DQN, "target", wrong)
    with pytest.raises(AssertionError):
        check_bias()


def found_by(noisy, tmp_path):
    """The seeds of 3 whose last training episodes end with the reward, without ε."""
    algorithm = td.DQN(
        torso=td.Torso(widths=(50,), activation="relu", init="uniform"), learning_rate=1e-3, target_period=4,
        noisy=noisy, dueling=True, replay_ratio=0.25, normalize_observation=False, num_envs=8,
        exploration=td.Epsilon(start=0.0, end=None), replay=td.Uniform(capacity=10_000, batch_size=64, warmup=8),
    )  # fmt: skip
    run = trained(tmp_path, algorithm, td.DeepSea(size=8), 24_000, seeds=3)
    return int((run.evaluate(4).returns.mean(1) > 0.9).sum())


@pytest.mark.slow
def test_noise_explores_where_greed_does_not(tmp_path, monkeypatch):
    """In 3,000 episodes. Chance finds the reward once in 256; greed without noise, or with noise that never changes,
    repeats itself."""
    assert found_by(0.5, tmp_path) >= 2
    assert found_by(None, tmp_path) == 0
    now = dqn.QNetwork.now

    def frozen(q, *args):
        return now(q, *args[:3], *(None if key is None else jax.random.key(0) for key in args[3:]))

    monkeypatch.setattr(dqn.QNetwork, "now", frozen)
    assert found_by(0.5, tmp_path) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rainbow", "c51", "qr-dqn", "iqn", "munchausen-dqn", "dueling-dqn"])
def test_cartpole_in_100k_steps(name, tmp_path):
    """Random play earns 22; QR-DQN earned 500 in five seeds of five, C51 of two seeds 500 and 500, and Rainbow in a
    third of the steps 500 and 443."""
    value, steps = choose(name, "CartPole-v1", None)
    evaluation = trained(tmp_path, value, "CartPole-v1", steps, seeds=3).evaluate(30)
    print(name, evaluation)
    assert evaluation.mean >= 400, evaluation.per_run
    assert min(evaluation.per_run) >= 200, evaluation.per_run


RECURRENT = {
    ("drqn", "TMaze"): 3.2,
    ("r2d2", "TMaze"): 3.2,
    ("drqn", "RepeatPrevious"): 0.5,
    ("r2d2", "RepeatPrevious"): 0.5,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "env"), RECURRENT)
def test_recurrent_networks_remember(name, env, tmp_path):
    value, steps = choose(name, env, None)
    evaluation = trained(tmp_path, value, env, steps, seeds=4).evaluate(50)
    print(name, env, evaluation)
    assert sorted(evaluation.per_run)[1] >= RECURRENT[name, env], evaluation.per_run


@pytest.mark.slow
def test_a_memory_that_forgets_is_noticed(tmp_path, monkeypatch):
    """Where every step begins an episode for the network, nothing is remembered: half of 4 and half of -0.1 is best."""
    call, now = dqn.QNetwork.__call__, dqn.QNetwork.now
    always = lambda f: lambda q, obs, first, *rest: f(q, obs, jnp.ones_like(first), *rest)  # noqa: E731
    monkeypatch.setattr(dqn.QNetwork, "__call__", always(call))
    monkeypatch.setattr(dqn.QNetwork, "now", always(now))
    value, steps = choose("r2d2", "TMaze", None)
    run = trained(tmp_path, dataclasses.replace(value), "TMaze", steps // 2, seeds=2)
    assert run.evaluate(100).mean <= 2.6
