"""Runs that are interrupted, killed or failed by their environment, and go on."""

from __future__ import annotations

import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Discrete

import thorndike as td
from algorithms.cases import CASES
from thorndike.errors import (
    ConfigError,
)
from thorndike.runs.storage import checkpoint
from thorndike.runs.training import loop
from thorndike.runs.training.loop import Loop


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    """Not here: a run goes on with a program that was traced anew, as it would in another process."""


# --- interrupted and resumed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "at"), [("PPO", (96,)), ("DQN", (32, 160)), ("SAC", (64,))])
def test_an_interrupted_run_goes_on_bit_for_bit(name, at, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)  # an iteration at a time: stop between two rows
    small.interrupt(monkeypatch, *at)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        small.train(name, tmp_path / "run")
    for i, steps in enumerate(at):
        stopped = td.open_run(tmp_path / "run")
        assert stopped.status["state"] == "interrupted"
        assert stopped.status["steps"] == steps
        assert checkpoint.steps(stopped.path / "checkpoints")[-1] == steps
        if i + 1 < len(at):
            with pytest.raises(KeyboardInterrupt):
                td.resume(stopped.path, progress=False)
    assert signal.getsignal(signal.SIGINT) is before
    done = td.resume(tmp_path / "run", progress=False)
    assert done.status["state"] == "finished"
    assert done.status["steps_per_second"] == pytest.approx(320 / done.status["seconds"], rel=0.05)
    assert small.differing(small.arrays(done), small.arrays(runs(name))) == []
    assert small.rows(done) == small.rows(runs(name))


@pytest.mark.parametrize(
    "name",
    ["ppo with memory", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dqn with memory", "alphazero"))],
)
def test_what_remembers_and_what_searches_goes_on_bit_for_bit(name, tmp_path, monkeypatch):
    """Carries, sequences with theirs, and a game's state are in the checkpoint."""
    algorithm, env = CASES[name]
    rollout = algorithm.num_envs * algorithm.rollout_length
    how = {"algorithm": algorithm, "env": env, "steps": 10 * rollout, "log_every": rollout}
    whole = small.train(name, tmp_path / "whole", **how)
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    small.interrupt(monkeypatch, 5 * rollout)
    with pytest.raises(KeyboardInterrupt):
        small.train(name, tmp_path / "run", **how)
    done = td.resume(tmp_path / "run", progress=False)
    assert small.differing(small.arrays(done), small.arrays(whole)) == []
    assert small.rows(done) == small.rows(whole)


def test_a_run_stopped_between_two_rows_goes_on_bit_for_bit(ppo, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    advance, calls = loop.Progress.show, []

    def show(self, steps, seconds, returns):
        calls.append(steps)
        if steps == 80:  # rows are at 64 and 96
            os.kill(os.getpid(), signal.SIGTERM)
        advance(self, steps, seconds, returns)

    monkeypatch.setattr(loop.Progress, "show", show)
    with pytest.raises(SystemExit) as exit:
        small.train("PPO", tmp_path / "run")
    assert exit.value.code == 143
    assert td.open_run(tmp_path / "run").status["steps"] == 80
    done = td.resume(tmp_path / "run", progress=False)
    assert small.differing(small.arrays(done), small.arrays(ppo)) == []
    assert small.rows(done) == small.rows(ppo)


class Killed(BaseException):
    """The process ends here."""


def test_a_killed_run_goes_on_from_its_last_checkpoint(ppo, tmp_path, monkeypatch, capfd):
    """Killed in the middle of a save, rows ahead of the checkpoint, the last row cut short, one checkpoint damaged."""
    save, done = checkpoint.save, []

    def killing(folder, step, *args):
        if len(done) == 4:
            raise Killed
        done.append(step)
        save(folder, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHUNK_SECONDS", 0.0)
        patch.setattr(checkpoint, "save", killing)
        with pytest.raises(Killed):
            small.train("PPO", tmp_path / "run", checkpoint_every=0.0)
    assert done == [16, 32, 48, 64]
    run = td.open_run(tmp_path / "run")
    assert run.status["state"] == "interrupted"
    assert checkpoint.steps(run.path / "checkpoints") == [32, 48, 64]
    (run.path / "checkpoints" / f"{64:012d}" / checkpoint.ARRAYS).write_bytes(b"")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"steps": 96, "rollout/ep_rew')
    resumed = td.resume(run.path, progress=False)
    err = capfd.readouterr().err
    assert "skipped a checkpoint" in err
    assert f"{64:012d}" in err
    assert small.differing(small.arrays(resumed), small.arrays(ppo)) == []
    assert small.rows(resumed) == small.rows(ppo)


def test_a_run_without_a_checkpoint_starts_again(ppo, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "go", lambda self: None)
        small.train("PPO", tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"steps": 16, "rollout/episodes": 5}\n')
    done = td.resume(tmp_path / "run", progress=False)
    assert small.differing(small.arrays(done), small.arrays(ppo)) == []
    assert small.rows(done) == small.rows(ppo)


def test_a_finished_run_is_resumed_to_more_steps(ppo, tmp_path):
    shutil.copytree(ppo.path, tmp_path / "run")
    run = td.resume(tmp_path / "run", progress=False)  # nothing to do
    assert small.differing(small.arrays(run), small.arrays(ppo)) == []
    longer = td.resume(tmp_path / "run", steps=small.STEPS + 50, progress=False)
    assert longer.status["steps"] == longer.info["steps"] == 384
    assert [row["steps"] for row in small.rows(longer)] == list(range(32, 385, 32))
    assert small.rows(longer)[:10] == small.rows(ppo)
    assert small.arrays(longer)[".agent.clock.total"] == 384
    assert td.open_run(tmp_path / "run").info["steps"] == 384
    with pytest.raises(ConfigError, match="the run has 384 steps already, more than 100"):
        td.resume(tmp_path / "run", steps=100)


def test_schedules_go_on_at_once_where_a_run_is_resumed_to_more_steps(tmp_path):
    """At the end of the first half the learning rate is 0, of twice as many steps half of what it was at first."""
    algorithm = td.PPO(**{**vars(small.PPO), "learning_rate": td.Linear(small.PPO.learning_rate)})
    small.train("PPO", tmp_path / "run", algorithm=algorithm, steps=160, log_every=16)
    norms = td.resume(tmp_path / "run", steps=320, progress=False).metrics()["train/update_norm"]
    assert norms[9] < 0.3 * norms[0]
    assert 2 * norms[9] < norms[10] < norms[0]


# --- on the host ------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_in_its_own_world(tmp_path):
    run = small.train("PPO", tmp_path / "run", env=td.CartPole(gravity=9.0))
    with pytest.raises(ConfigError, match=r"this run was trained in .*9\.0.*, not in .*30\.0.*start a new one"):
        td.resume(run.path, steps=640, env=td.CartPole(gravity=30.0), progress=False)
    assert td.resume(run.path, steps=640, env=td.CartPole(gravity=9.0), progress=False).status["steps"] == 640
    elsewhere = td.open_run(run.path, env=td.CartPole(gravity=30.0))  # to look at it there
    assert elsewhere.evaluate(3).lengths.min() > 0


def test_a_gymnasium_run_trains_stops_resumes_and_evaluates(tmp_path, monkeypatch, capfd):
    small.interrupt(monkeypatch, 96)
    with pytest.raises(KeyboardInterrupt):
        small.train("PPO", tmp_path / "run", env="gymnasium/CartPole-v1", workers="serial")
    assert td.open_run(tmp_path / "run").status["steps"] == 96
    capfd.readouterr()
    run = td.resume(tmp_path / "run", progress=False)
    assert "the simulator cannot be saved: new episodes begin" in capfd.readouterr().err
    assert (run.status["state"], run.status["steps"]) == ("finished", 320)
    assert [row["steps"] for row in small.rows(run)] == list(range(32, 321, 32))
    assert small.TAGS[""] | small.TAGS["PPO"] <= {*small.rows(run)[-1], "time/fps", "time/seconds"}
    result = run.evaluate(5)
    assert result.returns.shape == (1, 5)
    assert np.array_equal(result.returns, result.lengths)
    assert run.agent().act(np.zeros(4)) in (0, 1)


def test_a_run_that_asked_for_threads_is_stepped_as_auto_would(tmp_path):
    run = small.train("PPO", tmp_path / "run", env="gymnasium/CartPole-v1", workers="serial", steps=32)
    (run.path / "run.json").write_text(json.dumps(run.info | {"workers": "thread"}))
    assert td.open_run(run.path).stepping["workers"] == "auto"
    assert td.resume(run.path, steps=64, progress=False).status["steps"] == 64


def test_episodes_cut_by_a_stop_on_the_host_are_not_counted(tmp_path, monkeypatch):
    """Every episode of FiveSteps has five steps; rollouts have eight, so a stop cuts episodes in two."""
    small.interrupt(monkeypatch, 96)
    with pytest.raises(KeyboardInterrupt):
        small.train("PPO", tmp_path / "run", env=small.FiveSteps, workers="serial")
    assert small.arrays(td.open_run(tmp_path / "run"))[".episodes.running_length"].max() > 0
    with pytest.raises(ConfigError, match="give it again, as env="):
        td.resume(tmp_path / "run", progress=False)
    run = td.resume(tmp_path / "run", env=small.FiveSteps, progress=False)
    assert {row["rollout/ep_len_mean"] for row in small.rows(run)} == {5.0}
    assert {row["rollout/ep_rew_mean"] for row in small.rows(run)} == {5.0}
    assert run.evaluate(3).mean == 5.0


def test_a_run_whose_environment_fails_says_so_in_its_status_and_goes_on_later(tmp_path, monkeypatch):
    step = small.FiveSteps.step
    calls = iter(range(60))
    monkeypatch.setattr(
        small.FiveSteps, "step", lambda self, a: step(self, a) if next(calls, None) is not None else 1 / 0
    )
    with pytest.raises(td.EnvError, match="ZeroDivisionError"):
        small.train("PPO", tmp_path / "run", env=small.FiveSteps, workers="serial", checkpoint_every=0.0)
    status = td.open_run(tmp_path / "run", env=small.FiveSteps).status
    assert status["state"] == "failed"
    assert "environment" in status["error"]
    monkeypatch.setattr(small.FiveSteps, "step", step)
    run = td.resume(tmp_path / "run", env=small.FiveSteps, progress=False)
    assert run.status["state"] == "finished"
    assert "error" not in run.status


def test_a_run_that_goes_on_begins_other_episodes(tmp_path, monkeypatch):
    reset, seeds = small.FiveSteps.reset, []
    monkeypatch.setattr(
        small.FiveSteps, "reset", lambda self, seed=None, **how: (seeds.append(seed), reset(self, seed=seed))[1]
    )
    for steps in (32, 64, 96):
        if steps == 32:
            small.train("PPO", tmp_path / "run", env=small.FiveSteps, workers="serial", steps=steps, seed=5)
        else:
            td.resume(tmp_path / "run", steps, env=small.FiveSteps, progress=False)
    first = [seed for seed in seeds if seed]  # when the spaces are learned it is 0, later in an episode None
    assert first[:2] == [50_035, 50_036]
    assert len(first) == len(set(first)) == 6


def test_a_faulty_environment_is_restarted_where_that_is_asked_for(tmp_path, monkeypatch):
    step, calls = small.FiveSteps.step, iter(range(1000))
    monkeypatch.setattr(small.FiveSteps, "step", lambda self, a: 1 / 0 if next(calls) % 50 == 49 else step(self, a))
    run = small.train("PPO", tmp_path / "run", env=small.FiveSteps, workers="serial", on_env_error="restart")
    assert run.status["state"] == "finished"
    assert run.metrics()["rollout/env_restarts"][-1] == 320 // 50
    whole = run.metrics()["rollout/ep_rew_mean"]
    np.testing.assert_array_equal(whole[np.isfinite(whole)], 5.0)  # those that were dropped do not count
    for more, text in (({"on_env_error": "no"}, "on_env_error must be"), ({"env_timeout": 0}, "more than 0")):
        with pytest.raises(ConfigError, match=text):
            small.train("PPO", tmp_path / "other", env=small.FiveSteps, **more)


@td.config
class OwnKeys:
    """It keeps random keys of its own, of JAX's generators."""

    max_steps: int = 20
    observation_space, action_space = Box(-1, 1, (2,)), Discrete(2)

    def reset(self, key):
        return td.Step((jax.random.key(7), jax.random.key(8, impl="rbg")), jnp.zeros(2))

    def step(self, state, action, key):
        one, other = (jax.random.split(k) for k in state)
        seen = jnp.concatenate([jax.random.uniform(k[1], (1,)) for k in (one, other)])
        return td.Step((one[0], other[0]), seen, 1.0)


def test_an_environment_with_keys_of_its_own(tmp_path):
    whole = small.train("PPO", tmp_path / "whole", env=OwnKeys(), steps=640)
    run = small.train("PPO", tmp_path / "run", env=OwnKeys())
    td.resume(run.path, steps=640, classes=[OwnKeys], progress=False)
    assert small.differing(small.arrays(whole), small.arrays(run)) == []
