"""Every training episode is in the run's file: its return, its length, the step at which it ended, and whose it was."""

from __future__ import annotations

import dataclasses
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.errors import ConfigError
from thorndike.runs.storage.episodes import BYTES
from thorndike.runs.training import loop


@td.config
class Short:
    """Every episode has `max_steps` steps, and pays 1 and a tenth for each."""

    max_steps: int = 5
    observation_space, action_space = Box(-1, 1, (4,)), Discrete(2)

    def reset(self, key):
        return td.Step(jnp.int32(0), jnp.zeros(4))

    def step(self, state, action, key):
        return td.Step(state, jnp.zeros(4), 1.1)


@pytest.mark.parametrize(("length", "steps"), [(5, 320), (1, 30_000)])
def test_all_are_there_however_fast_they_come(length, steps, tmp_path):
    """Of single steps, 30,000 episodes in two rows: a hundred times what the window of returns holds."""
    run = small.train("PPO", tmp_path / "run", env=Short(max_steps=length), steps=steps, log_every=15_000)
    found = run.episodes()
    ends = np.arange(length, run.status["steps"] // 2 + 1, length)
    assert found["step"].tolist() == np.repeat(2 * ends, 2).tolist()
    assert set(found["length"].tolist()) == {length}
    np.testing.assert_allclose(found["return"], 1.1 * length, rtol=1e-5)
    assert set(found["member"].tolist()) == {0}
    assert len(found["step"]) == run.status["episodes"]


def test_the_rows_means_are_of_the_last_hundred(tmp_path):
    run = small.train("PPO", tmp_path / "run", seeds=2, steps=6_400, log_every=640)
    found, metrics = run.episodes(), run.metrics()
    for i, step in enumerate(metrics["steps"]):
        for member in (0, 1):
            known = (found["member"] == member) & (found["step"] <= step)
            assert known.sum() == metrics["rollout/episodes"][i, member]
            for tag, name in (("rollout/ep_rew_mean", "return"), ("rollout/ep_len_mean", "length")):
                assert metrics[tag][i, member] == pytest.approx(found[name][known][-100:].mean(), rel=1e-6)
    assert (np.diff(found["step"]) >= 0).all()
    np.testing.assert_array_equal(found["return"], found["length"])  # CartPole pays 1 a step
    assert (metrics["rollout/episodes"][-1] > 100).all()


@pytest.mark.parametrize("env", [small.FiveSteps, "gymnasium/CartPole-v1"])
def test_on_the_host(env, tmp_path):
    run = small.train("DQN", tmp_path / "run", env=env, workers="serial", seeds=2)
    found = run.episodes()
    assert len(found["step"]) == run.metrics()["rollout/episodes"][-1].sum()
    np.testing.assert_array_equal(found["return"], found["length"])
    if env is small.FiveSteps:
        for member in (0, 1):
            steps = found["step"][found["member"] == member]
            assert steps.tolist() == np.repeat(10 * np.arange(1, 33), 2).tolist()


def test_none_is_lost_on_the_host_either(tmp_path, monkeypatch):
    class OneStep(small.FiveSteps):
        def step(self, action):
            return np.zeros(4, np.float32), 1.0, True, False, {}

    monkeypatch.setattr(loop, "CHUNK_SECONDS", 100.0)  # chunks as long as the rows are apart
    run = small.train("PPO", tmp_path / "run", env=OneStep, workers="serial", steps=4_000, log_every=4_000)
    assert run.episodes()["step"].tolist() == np.repeat(np.arange(2, 4_001, 2), 2).tolist()


def test_the_file_is_the_same_after_a_stop(tmp_path, monkeypatch):
    how = {"env": Short(max_steps=3), "seeds": 2}
    whole = small.train("PPO", tmp_path / "whole", **how)
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    small.interrupt(monkeypatch, 96, 160)
    with pytest.raises(KeyboardInterrupt):
        small.train("PPO", tmp_path / "run", **how)
    with pytest.raises(KeyboardInterrupt):
        td.resume(tmp_path / "run", env=Short(max_steps=3), progress=False)
    assert td.open_run(tmp_path / "run", env=Short()).episodes()["step"].max() <= 160
    run = td.resume(tmp_path / "run", env=Short(max_steps=3), progress=False)
    assert (run.path / "episodes.bin").read_bytes() == (whole.path / "episodes.bin").read_bytes()
    assert (run.path / "episodes.bin").stat().st_size == BYTES * len(run.episodes()["step"])


def test_what_a_killed_run_has_written_ahead_is_written_again(ppo, tmp_path):
    path = shutil.copytree(ppo.path, tmp_path / "run")
    longer = td.resume(path, steps=640, progress=False)
    whole = (path / "episodes.bin").read_bytes()
    again = shutil.copytree(ppo.path, tmp_path / "again")
    (again / "episodes.bin").write_bytes(whole[:-7])  # as if it had died there, without a checkpoint
    assert len(td.open_run(again).episodes()["step"]) == len(longer.episodes()["step"]) - 1
    td.resume(again, steps=640, progress=False)
    assert (again / "episodes.bin").read_bytes() == whole


def test_a_run_that_diverges_has_no_more_from_then_on(tmp_path):
    algorithm = dataclasses.replace(small.PPO, learning_rate=np.array([1e-3, 1e30]))
    run = small.train("PPO", tmp_path / "run", algorithm=algorithm, env=Short(max_steps=2), steps=160)
    at = run.status["diverged"]["1"]
    found = run.episodes()
    assert found["step"][found["member"] == 1].max(initial=0) < at
    assert found["step"][found["member"] == 0].max() == 160


def test_what_learns_from_a_dataset_has_none(ppo, tmp_path):
    data = ppo.record(2, tmp_path / "data")
    algorithm = td.BC(torso=small.TORSO, batch_size=8)
    run = small.train("", tmp_path / "run", algorithm=algorithm, env="CartPole-v1", dataset=data, steps=20)
    with pytest.raises(ConfigError, match="this run learned from a dataset"):
        run.episodes()
    assert (run.path / "episodes.bin").stat().st_size == 0


def test_an_older_run_has_no_such_file(ppo, tmp_path):
    path = shutil.copytree(ppo.path, tmp_path / "run")
    (path / "episodes.bin").unlink()
    assert {name: len(x) for name, x in td.open_run(path).episodes().items()} == {
        "step": 0, "return": 0, "length": 0, "member": 0,
    }  # fmt: skip
