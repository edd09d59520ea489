"""Agents that an algorithm is given: beside it in every program, with the run on the disk, and in no checkpoint."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.cli import main
from thorndike.drivers.given import Bound, map_settings, unbound
from thorndike.drivers.scan import axes, member
from thorndike.errors import CheckpointError, ConfigError
from thorndike.runs.training import loop
from thorndike.runs.training.beginning import seed_keys
from thorndike.runs.training.setup import driver_of

FEW = td.Distillation(num_envs=2, rollout_length=8, minibatch_size=8, epochs=1, torso=small.TORSO)


def distil(out, teacher, **more) -> td.Run:
    given = None if teacher is None else {"teacher": teacher}
    return small.train("", out, **{"algorithm": FEW, "env": "CartPole-v1", "steps": 64, "given": given, **more})


@pytest.fixture(scope="module")
def student(runs, tmp_path_factory):
    return distil(tmp_path_factory.mktemp("given") / "run", runs("PPO"))


def test_a_copy_stays_with_the_run_and_in_no_checkpoint(student, ppo):
    (record,) = student.info["given"]["teacher"]
    kept = td.load(student.path / record["path"])
    assert small.differing(*({str(i): np.asarray(x) for i, x in enumerate(jax.tree.leaves(agent.actor))}
                             for agent in (kept, ppo.agent()))) == []  # fmt: skip
    assert record["algorithm"] == "PPO"
    assert len(record["sha256"]) == 64
    assert not [name for name in small.arrays(student) if "given" in name or "teacher" in name]
    plain = jax.tree.leaves(jax.eval_shape(lambda: FEW.init(jax.random.key(0), student.spec)))
    assert len([name for name in small.arrays(student) if name.startswith(".agent")]) == len(plain)


def test_the_teacher_is_an_argument_of_the_program(student):
    """Not a constant in it: the same program learns otherwise from another teacher."""
    with driver_of(student) as driver:
        taught, program, numbers = driver.algorithm, driver.compile(), (np.int32(2), np.bool_(False), np.int32(9))
        assert isinstance(taught, Bound)
        other = Bound(taught.algorithm, jax.tree.map(lambda x: -x, taught.given))
        start = lambda: driver.init(seed_keys(student))  # noqa: E731
        each = [program(algorithm, driver.world, start(), *numbers).agent.policy for algorithm in (taught, other)]
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(*map(jax.tree.leaves, each)))


def test_what_is_given_is_no_sweep():
    """A vector among it belongs to every run; a mutant that maps over all of it takes it apart."""
    biases = np.arange(3.0)
    both = Bound(td.PPO(learning_rate=np.array([1.0, 2.0, 3.0])), {"teacher": biases})
    assert member(both, 1).learning_rate == 2.0
    assert member(both, 1).given["teacher"] is biases
    assert jax.tree.map(lambda x: x[1] if np.ndim(x) else x, both).given["teacher"] == 1.0  # the mutant
    assert axes(both).given is None
    assert axes(both).algorithm.learning_rate == 0
    assert map_settings(lambda x: x, both).given["teacher"] is biases
    assert unbound(both) is both.algorithm
    assert unbound(both.algorithm) is both.algorithm
    assert hasattr(both, "learn")
    assert not hasattr(both, "update")


def test_seeds_and_sweeps_are_taught_alike(student, ppo, tmp_path):
    """Each run of three is the run alone."""
    both = distil(tmp_path / "both", ppo, seeds=3)
    for name, x in small.arrays(student).items():
        if ".policy" in name:
            np.testing.assert_allclose(x[0], small.arrays(both)[name][0], atol=1e-5)
    rates = td.Distillation(**{**vars(FEW), "learning_rate": np.array([3e-3, 1e-2])})
    run = distil(tmp_path / "sweep", ppo, algorithm=rates, seeds=2)
    for name, x in small.arrays(student).items():
        if ".policy" in name:
            np.testing.assert_allclose(x[0], small.arrays(run)[name][0], atol=1e-5)
            assert (x[0] != small.arrays(run)[name][2]).any() or np.ptp(x) == 0


def test_on_the_host(ppo, tmp_path):
    run = distil(tmp_path / "run", ppo.agent(), env="gymnasium/CartPole-v1", workers="serial", seeds=2)
    assert run.status["state"] == "finished"
    assert np.isfinite(run.metrics()["train/kl"][-1]).all()


def test_an_interrupted_run_goes_on_bit_for_bit(student, ppo, tmp_path, monkeypatch):
    """Though the teacher's own run is gone."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    source = td.open_run(shutil.copytree(ppo.path, tmp_path / "source"))
    small.interrupt(monkeypatch, 32)
    with pytest.raises(KeyboardInterrupt):
        distil(tmp_path / "run", source)
    shutil.rmtree(source.path)
    run = td.resume(tmp_path / "run", progress=False)
    assert small.differing(small.arrays(run), small.arrays(student)) == []


def test_another_teacher_is_noticed(student, tmp_path):
    """Also where its file is sound: a mutant that does not look at the hash goes on with it."""
    run = td.open_run(shutil.copytree(student.path, tmp_path / "run"))
    agent = run.agent()
    file = run.path / run.info["given"]["teacher"][0]["path"]
    original = file.read_bytes()
    other = run.given()["teacher"][0]
    td.Agent(other.algorithm, other.spec, jax.tree.map(lambda x: -x, other.actor)).save(file)
    with pytest.raises(CheckpointError, match="is not what the run was given"):
        td.resume(run.path, 128, progress=False)
    info = json.loads((run.path / "run.json").read_text())
    from thorndike.runs.results import given

    blind = {"teacher": [{**info["given"]["teacher"][0], "sha256": given._hash(file)}]}
    assert given.read(run.path, blind, ())  # the mutant
    file.unlink()
    with pytest.raises(CheckpointError, match="there is no file"):
        td.resume(run.path, 128, progress=False)
    # The student acts without any of them, from its run and from a file of its own.
    opened = td.open_run(run.path).agent()
    assert opened.act(np.ones(4)) == agent.act(np.ones(4)) == td.load(agent.save(tmp_path / "s.td")).act(np.ones(4))
    file.write_bytes(original)
    assert td.resume(run.path, 128, progress=False).status["steps"] == 128


@pytest.mark.parametrize(("given", "text"), [
    (None, "Distillation learns from 'teacher': give it"),
    ({"teacher": None}, r"given\['teacher'\] must be a run, an agent, or a path of either"),
    ({"teacher": ()}, r"given\['teacher'\] is empty"),
    ({"tutor": "x"}, "there is no file x"),
    ("x", "given must be a dict"),
])  # fmt: skip
def test_what_is_refused(given, text, tmp_path):
    with pytest.raises((ConfigError, CheckpointError), match=text):
        distil(tmp_path / "run", None, given=given)
    assert not (tmp_path / "run").exists()


def test_who_takes_nothing(ppo, tmp_path):
    with pytest.raises(ConfigError, match="PPO takes nothing called 'teacher'"):
        small.train("PPO", tmp_path / "run", given={"teacher": ppo})
    with pytest.raises(ConfigError, match="takes nothing called 'tutor': it takes teacher"):
        distil(tmp_path / "run", None, given={"tutor": ppo})


def test_a_dry_run(ppo, tmp_path):
    found = distil(tmp_path / "run", ppo, dry_run=True)
    assert found.parameters == 4 * 4 + 4 + 4 * 2 + 2 + 2 * 4 + 1  # network and statistics
    assert not (tmp_path / "run").exists()


def test_the_command_line(ppo, tmp_path, capsys):
    few = ["--num-envs", "2", "--rollout-length", "8", "--minibatch-size", "8", "--epochs", "1", "--torso.widths", "4"]
    argv = ["train", "distillation", "CartPole-v1", "--steps", "16", "--out", str(tmp_path / "run"), *few]
    assert main([*argv, "--given", f"teacher={ppo.path}"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["given"]["teacher"][0]["algorithm"] == "PPO"
    capsys.readouterr()
    assert main([*argv, "--out", str(tmp_path / "other"), "--given", "teacher"]) == 2
    assert "--given takes words such as teacher=runs/1" in capsys.readouterr().err


@td.config
class Copying(td.Distillation):
    """An algorithm of one's own that is given something."""

    def learn(self, state, rollout, key, given):
        return super().learn(state, rollout, key, given)


def test_an_algorithm_of_ones_own(ppo, tmp_path):
    run = distil(tmp_path / "run", ppo, algorithm=Copying(**vars(FEW)))
    assert td.open_run(run.path, classes=[Copying]).given()["teacher"]

    @td.config
    class Forgetful(td.Distillation):
        def learn(self, state, rollout, key):
            return state, {}

    with pytest.raises(ConfigError, match=r"Forgetful\.learn must take"):
        distil(tmp_path / "other", ppo, algorithm=Forgetful(**vars(FEW)))
