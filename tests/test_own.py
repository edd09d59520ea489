"""The examples, as a user has them: files that the command line is given by their paths."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import thorndike as td
from thorndike import own_modules
from thorndike.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ["--num-envs", "4", "--rollout-length", "16", "--torso.widths", "8", "--torso.init", "uniform"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with both examples; forgotten afterwards, as by the next process."""
    for file in EXAMPLES.glob("*.py"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    forget()


def forget():
    for name in ("reinforce", "corridor"):
        sys.modules.pop(name, None)
        own_modules.TYPED.pop(name, None)


def ok(capsys, *words: str) -> tuple[str, str]:
    assert main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr()


def refused(capsys, *words: str) -> str:
    assert main(list(words)) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


def test_from_training_to_evaluation_by_file(folder, capsys):
    both = ["./reinforce.py:REINFORCE", "./corridor.py:Corridor"]
    out, _ = ok(capsys, "train", *both, *SMALL, "--steps", "512", "--learning-rate", "1e-2", "--out", "run")
    own = "--env ./corridor.py:Corridor --classes ./reinforce.py"
    assert f"thorndike evaluate run {own}\n" in out
    forget()  # the next commands are other processes

    for argv in (["evaluate", "run"], ["watch", "run"], ["resume", "run", "--steps", "1024"]):
        said = refused(capsys, *argv)
        assert "REINFORCE is a class of your own" in said
        assert "--classes ./FILE.py" in said
    assert "reinforce" not in sys.modules  # which the run's directory names, and nobody typed
    ok(capsys, "plot", "run")
    assert "REINFORCE" in ok(capsys, "runs", ".")[0]
    run = td.open_run("run")
    assert run.metrics()["steps"][-1] == 512
    assert run.plot() is not None
    assert len(run.episodes()["return"]) > 0
    with pytest.raises(td.ConfigError, match="REINFORCE is a class of your own"):
        run.evaluate(1)

    for classes in (["./reinforce.py", "./corridor.py"], ["./reinforce.py:REINFORCE", "./corridor.py:Corridor"]):
        found = json.loads(ok(capsys, "evaluate", "run", "--episodes", "2", "--json", "--classes", *classes)[0])
        assert found["episodes"] == 2
        forget()
    words = own.split()
    assert json.loads(ok(capsys, "evaluate", "run", "--episodes", "2", "--json", *words)[0]) == found
    more = ["--steps", "1024", "--learning-rate", "1e-3", "--json"]
    resumed = json.loads(ok(capsys, "resume", "run", *words, *more)[0].splitlines()[-1])
    assert resumed["steps"] == 1024
    assert json.loads(Path("run", "run.json").read_text())["algorithm"]["learning_rate"] == 1e-3


@pytest.mark.parametrize("thing", ["./reinforce.py:REINFORCE", "./corridor.py:Corridor"])
def test_both_keep_their_contracts(thing, folder, capsys):
    out, _ = ok(capsys, "check", thing)
    assert "all holds" in out
    assert "  NO  " not in out


def test_what_is_wrong_with_a_file_is_said(folder, capsys):
    Path("json.py").write_text("class Mine: pass")
    Path("empty.py").write_text("class Mine: pass")
    Path("bare.py").write_text("import thorndike as td\nclass Mine(td.PPO): pass")
    for words, text in [
        (["train", "./nowhere.py:REINFORCE", "CartPole-v1"], "there is no file ./nowhere.py"),
        (["train", "./reinforce.py", "CartPole-v1"], "say which class or function in it, ./reinforce.py:NAME"),
        (["train", "./reinforce.py:Reinforce", "CartPole-v1"], "(did you mean 'REINFORCE'?); it has REINFORCE"),
        (["train", "./empty.py:Mine", "CartPole-v1"], "empty:Mine is no algorithm: it has no method act"),
        (["train", "./bare.py:Mine", "CartPole-v1"], "bare:Mine needs the decorator @td.config above its class"),
        (["train", "./json.py:Mine", "CartPole-v1"], "Python has another module 'json'"),
        (["train", "reinforse:REINFORCE", "CartPole-v1"], "which Python does not find: is it in the working directory"),
        (["train", "./corridor.py:Corridor", "ppo"], "thorndike train ppo ./corridor.py:Corridor"),
        (["train", "./corridor.py:Corridor", "./reinforce.py:REINFORCE"], "the algorithm comes first"),
    ]:
        said = refused(capsys, *words)
        assert text in said, said
        assert "pip install" not in said


def best_return(slip: float = 0.1, length: int = 10) -> float:
    """The return of walking straight to the exit, without a time limit: a linear system over the cells."""
    cells = 2 * length + 1
    go = np.zeros((cells, cells))
    for x in range(cells - 1):  # the exit is the last cell
        go[x, x + 1] += 1 - slip
        go[x, max(x - 1, 0)] += slip
    return -np.linalg.solve(np.eye(cells) - go, np.r_[np.ones(cells - 1), 0.0])[length]


def test_reinforce_finds_the_exit(folder, tmp_path):
    sys.path.insert(0, str(folder))
    from corridor import Corridor
    from reinforce import REINFORCE

    assert best_return() == pytest.approx(-12.5, abs=0.01)
    algorithm = REINFORCE(learning_rate=1e-2, torso=td.Torso(widths=(32,)), num_envs=16, rollout_length=32)
    earned = td.train(algorithm, Corridor(), 50_000, seeds=4, out=tmp_path / "run", progress=False).evaluate(100)
    assert (earned.returns.mean(-1) > 1.1 * best_return()).all(), earned.returns.mean(-1)
