"""The command that trains a run once more gives the same algorithm, environment and options."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

import thorndike as td
from runs import fake_runs
from thorndike.commands.train import train_arguments
from thorndike.configuration import to_json
from thorndike.own_modules import arguments
from thorndike.runs.results.again import again
from thorndike.runs.storage.journal import Journal


def make(path, algorithm, env="CartPole-v1", **more):
    """A run's folder that says what `td.train` would say of this algorithm."""
    return Journal(fake_runs.make(path, json.loads(json.dumps(to_json(algorithm))), env, **more))


CASES = {
    "defaults": (td.PPO(), "CartPole-v1"),
    "a preset": (td.preset("dqn", "CartPole-v1"), "CartPole-v1"),
    "not the preset": (td.DQN(), "CartPole-v1"),
    "nested, none and bool": (
        td.PPO(clip=0.31, target_kl=0.01, normalize_reward=False, torso=td.Torso(widths=(32, 16), activation="relu")),
        "CartPole-v1",
    ),
    "a schedule": (td.PPO(learning_rate=td.Linear(3e-4, 1e-5)), "CartPole-v1"),
    "another kind of part": (td.DQN(exploration=td.Softmax(start=0.7)), "Acrobot-v1"),
    "memory": (td.PPO(core=td.GRU(width=24)), "CartPoleNoVel-v1"),
    "a preset without its part": (td.preset("dqn", "CartPole-v1", double=False), "CartPole-v1"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_command_means_the_same(name, tmp_path):
    algorithm, env = CASES[name]
    journal = make(tmp_path / "run", algorithm, env, seed=3, seeds=2)
    program, command, *words = shlex.split(again(journal))
    assert (program, command) == ("thorndike", "train")
    (found,), id, options = train_arguments(words)
    assert to_json(found) == to_json(algorithm)
    assert id == env
    assert (options.steps, options.seed, options.seeds) == (journal.info["steps"], 3, 2)


def test_a_sweep(tmp_path):
    algorithm = to_json(td.PPO())
    rates = [1e-4, 1e-3]
    journal = Journal(fake_runs.make(tmp_path / "run", algorithm, sweep={"learning_rate": rates}))
    (found,), _, _ = train_arguments(shlex.split(again(journal))[2:])
    np.testing.assert_allclose(found.learning_rate, rates)
    apart = {"learning_rate": [1e-4, 1e-3], "clip": [0.1, 0.2]}  # two of four combinations
    journal = Journal(fake_runs.make(tmp_path / "apart", algorithm, sweep=apart))
    with pytest.raises(td.ConfigError, match="every combination"):
        again(journal)


def test_the_environments_arguments(tmp_path):
    path = fake_runs.make(tmp_path / "run", to_json(td.PPO()))
    info = json.loads((path / "run.json").read_text())
    env = td.CartPole(gravity=5.0)
    info["environment"] = {"id": "CartPole-v1", "fields": json.loads(json.dumps(to_json(env)))}
    (path / "run.json").write_text(json.dumps(info))
    *_, options = train_arguments(shlex.split(again(Journal(path)))[2:])
    assert td.CartPole(**arguments(options.env_kwargs)) == env
    info["environment"] = {"id": "Maze", "kwargs": {"size": 5, "name": "big", "digits": "7"}}
    (path / "run.json").write_text(json.dumps(info))
    words = shlex.split(again(Journal(path)))
    assert arguments(tuple(words[words.index("--env-kwargs") + 1 :])) == info["environment"]["kwargs"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"history": [{"steps": 5}]}, "changed on the way"),
        ({"start": {"path": "x"}}, "started from another agent"),
        ({"environment": {"id": "Maze", "object": True}}, "object of yours"),
        ({"algorithm": {"type": "own PPO"}}, "classes of your own"),
    ],
)
def test_what_no_command_says(change, why, tmp_path):
    path = fake_runs.make(tmp_path / "run")
    (path / "run.json").write_text(json.dumps(json.loads((path / "run.json").read_text()) | change))
    with pytest.raises(td.ConfigError, match=why):
        again(Journal(path))
