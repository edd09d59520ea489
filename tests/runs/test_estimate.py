"""A dry run says what a training would take, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
import tempfile

import jax
import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.cli import main
from thorndike.errors import ConfigError
from thorndike.runs.training import estimate
from thorndike.runs.training.estimate import _size, _time


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(estimate, "SECONDS", 0.05)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory and a folder for temporary files, both empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def size_of(run: td.Run) -> int:
    """Bytes of all arrays of its checkpoint."""
    return sum(x.nbytes for x in small.arrays(run).values())


@pytest.mark.parametrize("name", ["PPO", "DQN"])
def test_what_it_says_is_so(name, runs, elsewhere):
    found = small.train(name, None, dry_run=True, steps=100_000)
    assert (found.algorithm, found.environment, found.agents, found.steps) == (name, "CartPole-v1", 1, 100_000)
    assert found.state_bytes == pytest.approx(size_of(runs(name)), rel=0.01)
    memory = sum(x.nbytes for key, x in small.arrays(runs(name)).items() if key.startswith(".memory"))
    assert found.memory_bytes == memory
    actor = runs(name).agent().actor
    assert found.parameters == sum(x.size for x in jax.tree.leaves(actor) if x.dtype == np.float32)
    kinds = ["filling the memory", "learning"] if name == "DQN" else ["learning"]
    assert list(found.programs) == ["initialisation", *kinds]
    assert list(found.steps_per_second) == kinds
    warm = 32 if name == "DQN" else 0
    expected = (100_000 - warm) / found.steps_per_second["learning"]
    expected += warm / found.steps_per_second["filling the memory"] if warm else 0.0
    assert found.seconds == pytest.approx(expected, rel=1e-6)
    assert list(elsewhere.iterdir()) == []


def test_the_time_is_about_right(tmp_path):
    """Of work without evaluations, and within a factor of five: the machine may be busy with other things."""
    found = small.train("PPO", None, dry_run=True, steps=40_000)
    run = small.train("PPO", tmp_path / "run", steps=40_000, log_every=40_000)
    assert found.seconds / 5 < run.status["seconds"] < 5 * found.seconds


def test_several_agents_on_the_host_and_from_a_dataset(ppo, elsewhere):
    sweep = dataclasses.replace(small.PPO, learning_rate=np.array([1e-3, 1e-2]))
    many = small.train("PPO", None, dry_run=True, algorithm=sweep, seeds=2)
    one = small.train("PPO", None, dry_run=True)
    assert (many.agents, many.parameters, many.state_bytes) == (4, one.parameters, 4 * one.state_bytes)
    host = small.train("DQN", None, dry_run=True, env=small.FiveSteps, workers="serial")
    assert host.steps_per_second["learning"] > 0
    assert host.memory_bytes == small.train("DQN", None, dry_run=True).memory_bytes
    data = ppo.record(2, elsewhere / "data")
    algorithm = td.BC(torso=small.TORSO, batch_size=8)
    offline = small.train("", None, dry_run=True, algorithm=algorithm, env="CartPole-v1", dataset=data, steps=500)
    assert (list(offline.steps_per_second), offline.steps) == (["learning"], 500)
    started = small.train("PPO", None, dry_run=True, start=ppo)
    assert started.parameters == one.parameters
    assert [path.name for path in elsewhere.iterdir()] == ["data"]


def test_what_cannot_be_trained_cannot_be_estimated(elsewhere):
    with pytest.raises(ConfigError, match="steps must be a positive whole number"):
        small.train("PPO", None, dry_run=True, steps=0)
    huge = dataclasses.replace(small.DQN, replay=td.Uniform(capacity=2 * 10**9, batch_size=8, warmup=32))
    with pytest.raises(ConfigError, match=r"the replay memory takes .* GB, and .* are free: lower replay.capacity"):
        small.train("DQN", None, dry_run=True, algorithm=huge)
    assert list(elsewhere.iterdir()) == []


def test_it_reads_well(elsewhere, capsys):
    argv = ["train", "ppo", "CartPole-v1", *small.PPO_FLAGS, "--steps", "1600", "--dry-run"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert text.startswith("PPO on CartPole-v1: 1 agent, 1,600 steps each\nparameters  ")
    assert "about as much for each checkpoint" in text
    assert "evaluations come on top" in text
    assert main([*argv, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["parameters"] == small.train("PPO", None, dry_run=True).parameters
    assert data["compile_seconds"] == pytest.approx(sum(data["programs"].values()))
    assert list(elsewhere.iterdir()) == []


def test_numbers_in_words():
    assert [_size(n) for n in (7, 1_500, 2_000_000, 3 * 10**12)] == ["7 bytes", "1.5 kB", "2 MB", "3e+03 GB"]
    assert [_time(s) for s in (0.5, 119, 120, 7_200, 200_000)] == [
        "0.5 s",
        "119.0 s",
        "2.0 minutes",
        "2.0 hours",
        "2.3 days",
    ]
