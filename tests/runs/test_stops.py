"""Runs that stop, or should not: NaN, a full disk, work that does not answer, a state of another kind."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.errors import (
    CheckpointError,
    ConfigError,
    DivergedError,
)
from thorndike.nets.actor_critic import Carry
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.metrics import MetricsFile
from thorndike.runs.training import loop, waiting


def test_too_high_a_learning_rate_is_named_and_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    with pytest.raises(DivergedError, match=r"train/\w+ was the first metric that is not finite.*learning rate"):
        small.train("PPO", tmp_path / "run", algorithm=td.PPO(**{**vars(small.PPO), "learning_rate": 1e30}))
    status = td.open_run(tmp_path / "run").status
    assert status["state"] == "diverged"
    assert status["metric"].startswith("train/")


@pytest.mark.parametrize(("field", "metric"), [("reward_at", "reward_mean"), ("obs_at", "observation_max")])
def test_nan_of_the_environment_is_named_and_the_last_good_checkpoint_kept(field, metric, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    env = small.Broken(**{field: 35.0})  # in the fifth rollout of 8 steps
    with pytest.raises(DivergedError, match=rf"rollout/{metric} was the first .* at step 80\b.*look at its") as error:
        small.train("PPO", tmp_path / "run", env=env, checkpoint_every=0.0)
    assert "the checkpoint at 64 steps is kept" in str(error.value)
    with pytest.raises(ConfigError, match="classes="):
        _ = td.open_run(tmp_path / "run").env
    for run in (td.open_run(tmp_path / "run", env=env), td.open_run(tmp_path / "run", classes=[small.Broken])):
        assert (run.status["state"], run.status["metric"]) == ("diverged", f"rollout/{metric}")
        assert run.env == env
        assert checkpoint.steps(run.path / "checkpoints")[-1] == 64
        assert all(np.isfinite(x).all() for k, x in small.arrays(run).items() if k.startswith(".agent"))
        assert run.agent().act(np.zeros(4)) in (0, 1)
    with pytest.raises(DivergedError, match="at step 80"):  # it is there still
        td.resume(tmp_path / "run", env=env, progress=False)


def test_nan_while_the_memory_is_filled_is_the_environments_fault(tmp_path):
    algorithm = td.DQN(**{**vars(small.DQN), "replay": td.Uniform(capacity=400, batch_size=8, warmup=400)})
    with pytest.raises(DivergedError, match=r"rollout/reward_mean was the first .* at step 70\b"):
        small.train("DQN", tmp_path / "run", algorithm=algorithm, env=small.Broken(reward_at=35.0))


def test_a_run_that_ends_in_its_warm_up_says_that_nothing_is_learned(tmp_path, capfd):
    algorithm = td.DQN(**{**vars(small.DQN), "replay": td.Uniform(capacity=400, batch_size=8, warmup=400)})
    small.train("DQN", tmp_path / "run", algorithm=algorithm, steps=100)
    assert "warning: nothing is learned: the first 400 steps only fill the memory" in capfd.readouterr().err
    small.train("DQN", tmp_path / "more", algorithm=algorithm, steps=402)
    assert "nothing is learned" not in capfd.readouterr().err


@td.config
class SlowToBegin(td.CartPole):
    """Thinks for half a second or so before each episode."""

    def reset(self, key):
        step = super().reset(key)
        thought = jax.lax.fori_loop(0, 20_000_000, lambda i, x: jax.numpy.sin(x), step.obs[0])
        return step._replace(obs=step.obs.at[0].add(0 * thought))


def test_compiled_work_that_does_not_answer_is_said_once(tmp_path, monkeypatch, capfd):
    small.train("PPO", tmp_path / "usual", steps=20_000, log_every=20_000)
    assert "no answer" not in capfd.readouterr().err
    monkeypatch.setattr(waiting, "SILENCE", 0.0)
    small.train("PPO", tmp_path / "silent", steps=20_000, log_every=20_000)
    assert capfd.readouterr().err.count("no answer for 0 s after step ") == 1
    monkeypatch.setattr(waiting, "SILENCE", 0.05)
    small.train("PPO", tmp_path / "slow", env=SlowToBegin(), steps=16)
    assert "no answer for 0.05 s after step 0: an iteration takes that long, or a reset" in capfd.readouterr().err


def test_an_algorithm_that_changes_the_kind_of_its_state_is_refused(tmp_path, monkeypatch):
    """On JAX and on the host: there it would be noticed when the checkpoint is read, or never."""
    learn, act = td.PPO.learn, td.PPO.act

    def half(self, state, rollout, key):
        state, metrics = learn(self, state, rollout, key)
        return state._replace(clock=state.clock._replace(steps=state.clock.steps + 0.5)), metrics

    for env in ("CartPole-v1", "gymnasium/CartPole-v1"):
        with monkeypatch.context() as patch:
            patch.setattr(td.PPO, "learn", half)
            with pytest.raises(ConfigError, match=r"PPO.learn hands on .*float32.. where int32.. was due, at .*steps"):
                small.train("PPO", tmp_path / "run", env=env)
    with monkeypatch.context() as patch:
        patch.setattr(td.PPO, "carry", lambda self, actor, n: np.zeros(n, np.int32))
        patch.setattr(td.PPO, "act", lambda self, actor, carry, *rest: (
            act(self, actor, Carry((), ()), *rest)[0], carry + 0.5, {"log_prob": np.zeros(2, np.float32)}))  # fmt: skip
        with pytest.raises(ConfigError, match=r"PPO.act hands on something of another kind: float32.2. where int32.2."):
            small.train("PPO", tmp_path / "run", env="gymnasium/CartPole-v1")


@pytest.mark.parametrize("env", ["CartPole-v1", "gymnasium/CartPole-v1"])
def test_the_others_go_on_without_one_that_diverges(env, tmp_path, capfd):
    """Its row is empty from then on, its agent cannot be had, and it does not play; the rest is as it is alone."""
    rates = np.array([1e-3, 1e30])
    algorithm = td.PPO(**{**vars(small.PPO), "learning_rate": rates})
    run = small.train("PPO", tmp_path / "run", algorithm=algorithm, env=env, seeds=2, seed=5)
    said = capfd.readouterr().err
    for seed in (5, 6):
        assert said.count(f"warning: the run of {{'seed': {seed}, 'learning_rate': 1e+30}} has diverged") == 1
    assert run.status["state"] == "finished"
    assert set(run.status["diverged"]) == {"2", "3"}
    value = run.metrics()["train/value"]
    assert np.isnan(value[-1]).tolist() == [False, False, True, True]
    result = run.evaluate(3)
    assert np.isnan(result.returns).all(1).tolist() == [False, False, True, True]
    assert "diverged" in str(result)
    assert run.agent(6).act(np.zeros(4, np.float32)) in (0, 1)
    with pytest.raises(DivergedError, match=r"the agent of .*1e\+30.* diverged at step \d+"):
        run.agent(5, configuration=1)
    again = td.resume(run.path, steps=2 * small.STEPS, progress=False)
    assert set(again.status["diverged"]) == {"2", "3"}


def test_all_that_diverge_stop_the_run(tmp_path):
    algorithm = td.PPO(**{**vars(small.PPO), "learning_rate": np.array([1e30, 2e30])})
    with pytest.raises(DivergedError, match=r"in the run of \{.*e\+30\}, and the others have diverged too"):
        small.train("PPO", tmp_path / "run", algorithm=algorithm)


def test_a_disk_that_fills_up_stops_the_run_with_its_last_checkpoint(tmp_path, monkeypatch):
    """/dev/full takes nothing."""
    write = MetricsFile.write

    def full(self, row):
        if row["steps"] == 96:
            self.file.close()
            self.file = open("/dev/full", "w", buffering=1)  # noqa: SIM115
        write(self, row)

    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(MetricsFile, "write", full)
    with pytest.raises(CheckpointError, match=r"could not write .*: No space left on device"):
        small.train("PPO", tmp_path / "run", checkpoint_every=0.0)
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints")[1]["iterations"] == 5


def test_a_save_that_fails_is_a_warning_while_there_is_more_to_do(ppo, tmp_path, monkeypatch, capfd):
    save = checkpoint.save

    def failing(folder, step, *args):
        if step < small.STEPS:
            raise CheckpointError("could not save a checkpoint: No space left on device")
        return save(folder, step, *args)

    monkeypatch.setattr(checkpoint, "save", failing)
    run = small.train("PPO", tmp_path / "run", checkpoint_every=0.0)
    said = capfd.readouterr().err
    assert said.count("warning: could not save a checkpoint: No space left on device") == 1  # for many attempts
    assert small.differing(small.arrays(run), small.arrays(ppo)) == []
