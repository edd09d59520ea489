"""Hyperparameters that change while a run goes on: what comes of it, what is kept, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.cli import main
from thorndike.drivers.learner import set_clock
from thorndike.drivers.scan import ScanDriver
from thorndike.errors import ConfigError
from thorndike.runs.storage.arrays import to_arrays


@pytest.fixture
def half(runs, tmp_path):
    """A copy of a finished run, to go on with."""

    def get(name: str) -> td.Run:
        return td.open_run(shutil.copytree(runs(name).path, tmp_path / name))

    return get


def advanced(run: td.Run, algorithm, iterations: int, total: int) -> dict[str, np.ndarray]:
    """The arrays of a run that a driver with this algorithm advances so far."""
    spec = dataclasses.replace(run.spec, steps=total)
    driver = ScanDriver(algorithm, run.env, spec, 1)
    state, meta, _ = run.state(driver)
    state = state._replace(total=np.full_like(state.total, total))
    state = state._replace(agent=set_clock(state.agent, state.steps, state.total))
    return to_arrays(driver.advance(driver.place(state), iterations, fresh=meta["fresh"]))


@pytest.mark.parametrize(("name", "change", "iterations"), [
    ("PPO", {"learning_rate": 1e-4, "clip": 0.05}, 10),
    ("PPO", {"epochs": 3, "minibatch_size": 4}, 10),
    ("DQN", {"replay.batch_size": 4, "discount": 0.5, "exploration.end": 0.5}, 80),
])  # fmt: skip
def test_what_changes_is_learned_with(name, change, iterations, half):
    """As a driver with these settings would go on from the checkpoint."""
    run = half(name)
    expected = advanced(run, _with(run.algorithm, change), iterations, 480)
    done = td.resume(run.path, steps=480, change=change, progress=False)
    differing = small.differing(small.arrays(done), expected)
    assert set(differing) <= {".tally.sums", ".tally.count"}  # which began anew with each row
    assert done.algorithm == _with(run.algorithm, change)


def _with(algorithm, change):
    for name, value in change.items():
        outer, dot, inner = name.partition(".")
        value = dataclasses.replace(getattr(algorithm, outer), **{inner: value}) if dot else value
        algorithm = dataclasses.replace(algorithm, **{outer: value})
    return algorithm


def test_another_learning_rate_makes_another_agent_and_the_same_one_does_not(half, runs, tmp_path):
    plain = td.resume(shutil.copytree(runs("PPO").path, tmp_path / "plain"), steps=480, progress=False)
    same = td.resume(half("PPO").path, steps=480, change={"learning_rate": small.PPO.learning_rate}, progress=False)
    assert small.differing(small.arrays(plain), small.arrays(same)) == []
    assert same.info["history"] == []
    nothing = shutil.copytree(runs("PPO").path, tmp_path / "nothing")
    none = td.resume(nothing, steps=480, change={"learning_rate": 0.0}, progress=False)
    moved = [n for n in small.differing(small.arrays(none), small.arrays(runs("PPO"))) if n.startswith(".agent.params")]
    assert moved == []


def test_the_history_says_what_changed_and_when(half):
    run = half("PPO")
    td.resume(run.path, steps=336, change={"learning_rate": 1e-4}, progress=False)
    again = td.resume(run.path, steps=352, change={"clip": td.Linear(0.1), "epochs": 2}, progress=False)
    first, second = again.info["history"]
    assert (first["steps"], first["changed"]) == (320, {"learning_rate": {"from": 3e-4, "to": 1e-4}})
    assert second["steps"] == 336
    assert second["changed"]["epochs"] == {"from": 1, "to": 2}
    assert second["changed"]["clip"]["to"]["type"] == "Linear"
    found = td.open_run(run.path)
    assert found.algorithm == dataclasses.replace(small.PPO, learning_rate=1e-4, clip=td.Linear(0.1), epochs=2)
    assert found.status["steps"] == 352


@pytest.mark.parametrize(("change", "text"), [
    ({"learning_rat": 1e-4}, r"no field 'learning_rat' to change: PPO has no .* \(did you mean 'learning_rate'"),
    ({"torso.width": (5,)}, r"no field 'torso.width' to change: Torso has no 'width' \(did you mean 'widths'"),
    ({"clip.x": 1}, "no field 'clip.x' to change: float has no 'x'"),
    ({"learning_rate": -1.0}, "PPO.learning_rate must be at least 0"),
    ({"epochs": 1.5}, "PPO.epochs should be int"),
    ({"learning_rate": np.array([1e-3, 1e-4])}, "learning_rate cannot become a sweep"),
    ({"num_envs": 4}, "num_envs cannot change: this run counts its steps in rollouts of 16, and these would have 32"),
    ({"clip": 0.1, "rollout_length": 4}, "^rollout_length cannot change: this run counts"),
    ({"torso.widths": (5,)}, r"torso.widths cannot change: the run's arrays have other shapes; .*weight is float32"),
    ({"clip": 0.1, "normalize_reward": False}, "^normalize_reward cannot change: the run's arrays have other shapes"),
    ({"optimiser": td.SGD(), "core": td.GRU(), "minibatch_size": 16}, "^core and optimiser cannot change"),
])  # fmt: skip
@pytest.mark.parametrize("env", [None, small.FiveSteps])
def test_what_cannot_change(change, text, env, half, tmp_path):
    run = half("PPO") if env is None else small.train("PPO", tmp_path / "host", env=env, workers="serial", steps=16)
    before = (run.path / "run.json").read_text()
    with pytest.raises(ConfigError, match=text):
        td.resume(run.path, steps=640, env=env, change=change, progress=False)
    assert (run.path / "run.json").read_text() == before
    assert td.open_run(run.path, env=env).status["steps"] in (16, 320)


def test_a_swept_number_cannot_change_but_others_can(tmp_path):
    sweep = dataclasses.replace(small.PPO, learning_rate=np.array([1e-3, 1e-2]))
    run = small.train("PPO", tmp_path / "run", algorithm=sweep, steps=32)
    with pytest.raises(ConfigError, match="learning_rate cannot change: this run is a sweep of it"):
        td.resume(run.path, steps=64, change={"learning_rate": 1e-4}, progress=False)
    done = td.resume(run.path, steps=64, change={"clip": 0.1}, progress=False)
    assert done.algorithm.clip == 0.1
    assert [round(member["learning_rate"], 6) for member in done.members()] == [1e-3, 1e-2]


def test_a_run_with_nothing_left_to_learn_is_told(half):
    with pytest.raises(ConfigError, match="the run has all of its 320 steps: to learn with other settings, give more"):
        td.resume(half("PPO").path, change={"learning_rate": 1e-4}, progress=False)


def test_on_the_host_and_from_a_dataset(tmp_path):
    how = {"env": small.FiveSteps, "workers": "serial"}
    run = small.train("DQN", tmp_path / "run", steps=64, **how)
    done = td.resume(
        run.path, 96, env=small.FiveSteps, change={"replay.batch_size": 4, "discount": 0.5}, progress=False
    )
    assert (done.status["steps"], done.algorithm.replay.batch_size) == (96, 4)
    data = run.record(3)
    bc = small.train(
        "", tmp_path / "bc", algorithm=td.BC(torso=small.TORSO, batch_size=8), dataset=data, steps=20, **how
    )
    after = td.resume(bc.path, 40, env=small.FiveSteps, change={"batch_size": 4, "learning_rate": 1e-5}, progress=False)
    assert (after.status["steps"], after.info["history"][0]["steps"]) == (40, 20)


def test_the_command_line_takes_the_flags_of_train(half, capsys):
    run = half("DQN")
    flags = ["--learning-rate", "1e-4", "--replay.batch-size", "4", "--exploration", "softmax"]
    assert main(["resume", str(run.path), "--steps", "400", *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 400
    found = td.open_run(run.path)
    assert set(found.info["history"][0]["changed"]) == {"learning_rate", "replay.batch_size", "exploration"}
    assert found.algorithm.replay.batch_size == 4
    assert isinstance(found.algorithm.exploration, td.Softmax)
    assert main(["resume", str(run.path), "--steps", "500", "--num-envs", "3"]) == 2
    assert "num_envs cannot change" in capsys.readouterr().err
    assert main(["resume", str(run.path), "--help"]) == 0
    text = capsys.readouterr().out
    assert "--learning-rate" in text
    assert "0.0001" in text
    assert main(["resume", str(run.path)]) == 0  # nothing changes
    assert len(td.open_run(run.path).info["history"]) == 1


def test_a_sweep_is_resumed_on_the_command_line(tmp_path):
    sweep = dataclasses.replace(small.PPO, learning_rate=np.array([1e-3, 1e-2]))
    run = small.train("PPO", tmp_path / "run", algorithm=sweep, steps=32)
    assert main(["resume", str(run.path), "--steps", "48", "--clip", "0.1"]) == 0
    found = td.open_run(run.path)
    assert found.info["history"][0]["changed"] == {"clip": {"from": 0.2, "to": 0.1}}
    assert jax.tree.leaves(found.algorithm)[0].shape == (2,)
    assert jnp.ndim(found.algorithm.clip) == 0
