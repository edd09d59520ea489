"""Host environments that are made anew after a fault, and what becomes of the episodes that it cut."""

import gymnasium
import host_cases as cases
import jax
import numpy as np
import pytest
from host_cases import FAULTS, Counter, Faulty

import thorndike as td
from thorndike.drivers import evaluate as evaluation
from thorndike.drivers.evaluate import evaluate
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.errors import EnvError
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.record import record
from thorndike.runs.storage.environments import describe

BACKENDS = ["serial", "process"]
ZERO = np.zeros(2, np.int32)


@pytest.mark.parametrize(
    ("kind", "workers"),
    [("raises", "serial"), ("nan", "serial"), ("raises", "process"), ("killed", "process")],
)
def test_restarts(kind, workers):
    """Each copy fails at its third step, so time goes 1, 2, lost, 1, 2, lost, ..."""
    env = GymnasiumEnvironment(Faulty, kind=kind)
    with env.batch(1, 0, workers, 20.0, "restart") as batch:
        batch.reset()
        for step in range(9 if kind == "killed" else 36):
            now = batch.step(ZERO[:1])
            t = step % 3 + 1
            lost = t == 3
            assert now.truncated == now.first == lost
            assert not now.terminated
            assert now.reward == (0 if lost else 1)
            assert now.final_obs == (2 if lost else t)
            assert now.obs == (0 if lost else t)
        assert batch.restarts == (step + 1) // 3
        assert FAULTS[kind][0] in batch.last_fault
        assert "environment 0 failed in step" in batch.last_fault


@pytest.mark.parametrize("workers", BACKENDS)
def test_restart_after_a_hang(workers):
    env = GymnasiumEnvironment(Faulty, kind="hangs", unlucky=1)  # a rebuilt copy has another seed: it behaves
    with env.batch(2, 0, workers, 1.0, "restart") as batch:
        batch.reset()
        seen = [batch.step(ZERO) for _ in range(6)]
    assert [bool(step.truncated[1]) for step in seen] == [False, False, True, False, False, False]
    assert seen[2].final_obs[1] == 2
    assert seen[3].final_obs[1] == 1
    assert batch.restarts in (1, 2)  # the other copy shares the worker where there is one core


@pytest.mark.parametrize(
    ("kind", "workers"), [("raises", "serial"), ("hangs", "serial"), ("hangs", "process"), ("killed", "process")]
)
def test_a_reset_that_fails_keeps_the_episode_that_ended(kind, workers):
    env = GymnasiumEnvironment(Faulty, kind=kind, phase="reset")
    with env.batch(1, 0, workers, 1.0 if kind == "hangs" else 20.0, "restart") as batch:
        batch.reset()
        seen = [batch.step(ZERO[:1]) for _ in range(8)]
        assert not batch.dropped.any()
    assert [bool(step.terminated) for step in seen] == [False] * 3 + [True] + [False] * 3 + [True]
    assert seen[3].final_obs == 4
    assert seen[3].reward == 1
    assert seen[3].obs == 0
    assert batch.restarts == 2


def test_an_episode_that_ended_before_another_one_hung_is_kept():
    """The first ends with its fourth step; the second, of the same worker, hangs in it."""
    env = GymnasiumEnvironment(Faulty, kind="hangs", at=4, unlucky=1)
    with env.batch(2, 0, "serial", 1.0, "restart") as batch:
        batch.reset()
        *_, last = (batch.step(ZERO) for _ in range(4))
        assert batch.dropped.tolist() == [False, True]
        after = batch.step(ZERO)
    assert last.terminated.tolist() == [True, False]
    assert last.truncated.tolist() == [False, True]
    assert last.reward.tolist() == [1, 0]
    assert last.final_obs[:, 0].tolist() == [4, 3]
    assert last.obs[:, 0].tolist() == [0, 0]
    assert after.obs[:, 0].tolist() == [1, 1]


@pytest.mark.parametrize(("at", "unlucky"), [(3, 1), (5, 0)])
def test_what_had_not_ended_when_another_one_hung_is_dropped(at, unlucky):
    """Whether its step was done by then, or not begun since the last one, in which it ended."""
    env = GymnasiumEnvironment(Faulty, kind="hangs", at=at, unlucky=unlucky)
    with env.batch(2, 0, "serial", 1.0, "restart") as batch:
        batch.reset()
        *_, before, last = (batch.step(ZERO) for _ in range(at))
        assert batch.dropped.all()
    assert before.terminated.all() == (at == 5)
    assert last.truncated.all()
    assert not last.terminated.any()
    assert last.reward.tolist() == [0, 0]
    assert last.final_obs[:, 0].tolist() == [(at - 1) % 4] * 2
    assert last.obs[:, 0].tolist() == [0, 0]


def test_only_the_failed_environment_restarts():
    env = GymnasiumEnvironment(Faulty, kind="raises", unlucky=1)
    with env.batch(2, 0, "serial", on_error="restart") as batch:
        batch.reset()
        seen = [batch.step(ZERO) for _ in range(4)]
    assert [step.truncated.tolist() for step in seen] == [[False, x] for x in (False, False, True, False)]
    assert seen[3].terminated.tolist() == [True, False]


def test_a_rebuilt_environment_has_a_seed_of_its_own():
    with GymnasiumEnvironment(cases.SeedTeller).batch(2, 3, on_error="restart") as batch:
        assert batch.reset().obs[:, 0].tolist() == [30021, 30022]
        assert batch.step(ZERO).obs[:, 0].tolist() == [1030024, 1030025]
        assert batch.step(ZERO).obs[:, 0].tolist() == [2030027, 2030028]


@pytest.mark.parametrize("workers", BACKENDS)
def test_hopeless_environments_raise(workers):
    with GymnasiumEnvironment(cases.Hopeless).batch(1, 0, workers, on_error="restart") as batch:
        batch.reset()
        for _ in range(10):
            assert batch.step(ZERO[:1]).truncated
        with pytest.raises(EnvError, match="failure 11"):
            batch.step(ZERO[:1])
        assert batch.restarts == 10


def test_environments_that_kill_every_worker_raise():
    env = GymnasiumEnvironment(Faulty, kind="dies", at=1)
    with env.batch(1, 0, "process", on_error="restart") as batch:
        with pytest.raises(EnvError, match="exit code 5"):
            cases.play(batch, *[ZERO[:1]] * 11)
        assert batch.restarts == 10


POLICY = td.PPO(num_envs=2, rollout_length=4, minibatch_size=8, torso=td.Torso(widths=(4,)))


@pytest.mark.parametrize(("kind", "workers"), [("raises", "serial"), ("nan", "process"), ("dies", "process")])
def test_no_result_and_no_recording_is_of_a_dropped_episode(kind, workers):
    """Each copy fails once in its third episode's third step: whole episodes have four."""
    env = GymnasiumEnvironment(Faulty, kind=kind, at=11)
    agent = Agent(POLICY, spec := describe(env, 8, ""), POLICY.actor(POLICY.init(random_key(0), spec)))
    how = {"workers": workers, "on_error": "restart"}
    actors = jax.tree.map(lambda x: x[None], agent.actor)
    found = evaluate(POLICY, actors, env, 40, how=how)
    np.testing.assert_array_equal(found.returns, np.full((1, 40), 4.0))
    np.testing.assert_array_equal(found.lengths, np.full((1, 40), 4))
    recorded = record(agent, env, 40, how=how)
    assert [x.rewards.sum() for x in recorded] == [4.0] * 40
    assert all(x.terminations[-1] and not x.truncations.any() for x in recorded)


def test_whole_episodes_that_never_come_are_not_waited_for():
    env = GymnasiumEnvironment(Faulty, kind="raises", at=2)
    agent = Agent(POLICY, spec := describe(env, 8, ""), POLICY.actor(POLICY.init(random_key(0), spec)))
    how = {"workers": "serial", "on_error": "restart"}
    text = r"(\d+) episodes were dropped, where 3 were wanted: environment \d failed in step .*Unhappy"
    with pytest.raises(EnvError, match=text):
        evaluate(POLICY, jax.tree.map(lambda x: x[None], agent.actor), env, 3, how=how)
    with pytest.raises(EnvError, match=text):
        record(agent, env, 3, how=how)


@pytest.mark.parametrize("limit", [None, 6])
def test_an_episode_that_does_not_end_is_not_waited_for(limit, monkeypatch):
    monkeypatch.setattr(evaluation, "LONGEST", 7)
    env = GymnasiumEnvironment(lambda: gymnasium.wrappers.TimeLimit(Counter(9), limit) if limit else Counter(9))
    agent = Agent(POLICY, spec := describe(env, 8, ""), POLICY.actor(POLICY.init(random_key(0), spec)))
    actors, how = jax.tree.map(lambda x: x[None], agent.actor), {"workers": "serial"}
    if limit:
        assert (evaluate(POLICY, actors, env, 3, how=how).lengths == 6).all()
        assert [len(x.rewards) for x in record(agent, env, 3, how=how)] == [6] * 3
        return
    for play in (lambda: evaluate(POLICY, actors, env, 3, how=how), lambda: record(agent, env, 3, how=how)):
        with pytest.raises(EnvError, match=r"environment 0 .* has no time limit, and its episode has not ended in 7"):
            play()


def test_episodes_that_the_environment_itself_cuts_count():
    env = GymnasiumEnvironment(Counter)  # every other episode
    agent = Agent(POLICY, spec := describe(env, 8, ""), POLICY.actor(POLICY.init(random_key(0), spec)))
    found = evaluate(POLICY, jax.tree.map(lambda x: x[None], agent.actor), env, 20, how={"workers": "serial"})
    np.testing.assert_array_equal(found.returns, np.full((1, 20), 6.0))
    assert {bool(x.truncations[-1]) for x in record(agent, env, 20)} == {True, False}
