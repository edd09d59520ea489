"""Checkpoints beside the newest: the best by evaluation, and those kept every so many steps."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.cli import main
from thorndike.drivers.evaluation import Evaluation
from thorndike.errors import CheckpointError
from thorndike.runs.storage import checkpoint
from thorndike.runs.training import loop
from thorndike.runs.training.evaluation import SEEDS, Evaluator

KEPT = {"evaluate_every": 64, "evaluate_episodes": 2, "checkpoint_steps": 64, "keep": 1}


def scripted(monkeypatch, returns: dict[int, list[float]]) -> None:
    """Evaluations find these mean returns, one for each agent."""

    def play(self, algorithm, actors, env, seed, interrupted):
        each = np.repeat(np.array(returns[seed - SEEDS], float)[:, None], 2, 1)
        return Evaluation(each, np.ones(each.shape, int))

    monkeypatch.setattr(Evaluator, "play", play)


def same(a: td.Agent, b: td.Agent) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a.actor), jax.tree.leaves(b.actor), strict=True))


def test_the_best_is_that_of_the_highest_mean_over_all_seeds(tmp_path, monkeypatch):
    scripted(monkeypatch, {64: [1, 1], 128: [0, 6], 192: [4, 1], 256: [3, 3], 320: [2, 1]})
    run = small.train("PPO", tmp_path / "run", seeds=2, **KEPT)
    assert run.status["best"] == {"mean_reward": 3.0, "steps": 128}  # not the later one that equals it
    assert checkpoint.steps(run.path / "checkpoints") == [64, 128, 192, 256, 320]
    for seed in (0, 1):
        best = run.agent(seed, step="best")
        assert [step for step in (64, 128, 192, 256, 320) if same(best, run.agent(seed, step=step))] == [128]
        assert same(run.agent(seed), run.agent(seed, step=320))
    arrays, meta = checkpoint.load(run.path / "checkpoints" / "best")
    assert all(name.startswith(".agent") for name in arrays)
    assert meta["steps"] == 128


@pytest.mark.parametrize("at", [(96,), (64, 192, 256)])
def test_a_run_that_goes_on_has_the_same_best(at, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    scripted(monkeypatch, {64: [1], 128: [5], 192: [4], 256: [7], 320: [6]})
    small.interrupt(monkeypatch, *at)
    with pytest.raises(KeyboardInterrupt):
        small.train("PPO", tmp_path / "run", **KEPT)
    for _ in at[1:]:
        with pytest.raises(KeyboardInterrupt):
            td.resume(tmp_path / "run", progress=False)
    run = td.resume(tmp_path / "run", progress=False)
    assert run.status["best"] == {"mean_reward": 7.0, "steps": 256}
    assert same(run.agent(step="best"), run.agent(step=256))


def test_a_best_from_beyond_the_checkpoint_is_found_again(tmp_path, monkeypatch):
    """The process is killed after the best and before the next checkpoint; what is done again counts anew."""
    scripted(monkeypatch, {64: [1], 128: [5], 192: [7], 256: [4], 320: [6]})

    class Killed(BaseException):
        pass

    write = loop.Log.write

    def killed(self, iterations, *args):
        if iterations * 16 == 224:
            raise Killed
        return write(self, iterations, *args)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Log, "write", killed)
        with pytest.raises(Killed):
            small.train("PPO", tmp_path / "run", **KEPT | {"checkpoint_steps": 128})
    assert checkpoint.load(tmp_path / "run" / "checkpoints" / "best")[1]["steps"] == 192
    run = td.resume(tmp_path / "run", progress=False)
    assert [row["steps"] for row in small.rows(run) if "eval/mean_reward" in row] == [64, 128, 192, 256, 320]
    assert run.status["best"] == {"mean_reward": 7.0, "steps": 192}


def test_steps_between_kept_checkpoints_are_rounded_and_the_newest_others_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    run = small.train("PPO", tmp_path / "run", checkpoint_every=0.0, checkpoint_steps=100, keep=2)
    assert run.info["checkpoint_steps"] == 96
    assert checkpoint.steps(run.path / "checkpoints") == [96, 192, 288, 304, 320]


def test_a_checkpoint_can_be_evaluated_watched_and_recorded(tmp_path, capsys):
    run = small.train("PPO", tmp_path / "run", **KEPT)
    at = run.status["best"]["steps"]
    assert run.evaluate(3, step="best").returns.tolist() == run.evaluate(3, step=at).returns.tolist()
    assert run.evaluate(3, step=64).returns.shape == (1, 3)
    film = run.watch(step="best", frames=3)
    assert (run.path / "video" / "best.gif").is_file()
    assert film is not None
    run.watch(step=64, frames=3)
    assert (run.path / "video" / "64.gif").is_file()
    actions = [run.record(2, tmp_path / str(step), step=step).actions.tolist() for step in ("best", at)]
    assert actions[0] == actions[1]
    capsys.readouterr()
    for command in (["evaluate", "--episodes", "2"], ["watch", "--frames", "2"], ["record", "--episodes", "1"]):
        for step in ("best", "64"):
            name, *rest = command
            out = ["--out", str(tmp_path / f"cli-{step}")] if name == "record" else []
            assert main([name, str(run.path), *rest, "--step", step, *out]) == 0
    assert main(["evaluate", str(run.path), "--step", "65", "--json"]) == 1
    assert "there is no checkpoint of step 65 in" in capsys.readouterr().err


def test_a_checkpoint_that_is_not_there(ppo):
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 in .*: there are 320$"):
        ppo.agent(step=7)
    with pytest.raises(CheckpointError, match=r"no best checkpoint in .*: there are 320; one is kept by .*evaluate_e"):
        ppo.evaluate(step="best")


def test_the_best_is_not_what_a_run_goes_on_from(tmp_path):
    run = small.train("PPO", tmp_path / "run", **KEPT)
    for step in checkpoint.steps(run.path / "checkpoints"):
        shutil.rmtree(run.path / "checkpoints" / f"{step:012d}")
    with pytest.raises(
        CheckpointError, match="has no checkpoint yet, nothing to act with: train it by thorndike resume"
    ):
        run.agent()
    assert run.agent(step="best").act(np.zeros(4)) in (0, 1)


def test_a_disk_that_is_full_does_not_stop_training(tmp_path, monkeypatch, capfd):
    def full(*args):
        raise CheckpointError("could not save the best: No space left on device")

    monkeypatch.setattr(checkpoint, "save_best", full)
    run = small.train("PPO", tmp_path / "run", **KEPT)
    assert run.status["state"] == "finished"
    assert capfd.readouterr().err.count("warning: could not save the best") == 1


def test_the_command_line_keeps_them_too(tmp_path):
    flags = ["--evaluate-every", "32", "--evaluate-episodes", "2", "--checkpoint-steps", "32", "--steps", "64"]
    out = tmp_path / "run"
    assert main(["train", "ppo", "CartPole-v1", *small.PPO_FLAGS, *flags, "--out", str(out)]) == 0
    assert checkpoint.steps(out / "checkpoints") == [32, 64]
    info = json.loads((out / "run.json").read_text())
    assert (info["evaluate_every"], info["evaluate_episodes"], info["checkpoint_steps"]) == (32, 2, 32)
    assert td.open_run(out).agent(step="best").act(np.zeros(4)) in (0, 1)
