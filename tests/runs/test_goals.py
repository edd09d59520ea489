"""Training that ends before its planned steps: at a return that is reached, or without improvement."""

from __future__ import annotations

import numpy as np
import pytest
import small_runs as small
from test_best import scripted

import thorndike as td
from thorndike.cli import main
from thorndike.errors import ConfigError
from thorndike.runs.storage import checkpoint
from thorndike.runs.training import loop
from thorndike.runs.training.goals import Goals

EVERY = {"evaluate_every": 64, "evaluate_episodes": 2}


def test_an_evaluation_that_reaches_the_mark_is_the_last(tmp_path, monkeypatch, capfd):
    scripted(monkeypatch, {64: [1, 1], 128: [0, 6], 192: [9, 1], 256: [9, 9], 320: [9, 9]})
    run = small.train("PPO", tmp_path / "run", seeds=2, stop_at=5, **EVERY)
    assert (run.status["state"], run.status["steps"]) == ("finished", 192)  # the mean over both, not one's
    assert run.status["stopped"] == "stop_at 5: eval/mean_reward is 5"
    assert "stopped at 192 steps: stop_at 5: eval/mean_reward is 5" in capfd.readouterr().err
    assert checkpoint.steps(run.path / "checkpoints")[-1] == 192
    assert small.rows(run)[-1]["steps"] == 192


def test_patience_counts_evaluations_without_a_new_best(tmp_path, monkeypatch):
    scripted(monkeypatch, {16 * i: [x] for i, x in enumerate([0, 3, 2, 4, 4, 3, 5, 1, 2, 5, 4, 9] + 10 * [9])})
    run = small.train("PPO", tmp_path / "run", patience=3, evaluate_every=16, evaluate_episodes=2)
    assert run.status["steps"] == 16 * 9
    assert run.status["stopped"] == (
        "patience 3: eval/mean_reward has not risen above the 5 of step 96 in 3 evaluations"
    )


@pytest.mark.parametrize("at", [32, 112, 128])
def test_a_run_that_was_interrupted_is_as_patient_as_one_that_was_not(at, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    scripted(monkeypatch, {16 * i: [x] for i, x in enumerate([0, 3, 2, 4, 4, 3, 5, 1, 2, 5, 4, 9] + 10 * [9])})
    small.interrupt(monkeypatch, at)
    with pytest.raises(KeyboardInterrupt):
        small.train("PPO", tmp_path / "run", patience=3, evaluate_every=16, evaluate_episodes=2)
    run = td.resume(tmp_path / "run", progress=False)
    assert (run.status["steps"], run.status["best"]["steps"]) == (144, 96)


def test_a_signal_in_the_last_row_changes_nothing(tmp_path, monkeypatch):
    scripted(monkeypatch, {16 * i: [i] for i in range(1, 40)})
    small.interrupt(monkeypatch, 64)
    with pytest.raises(KeyboardInterrupt):
        small.train("PPO", tmp_path / "run", stop_at=4, evaluate_every=16, evaluate_episodes=2)
    status = td.open_run(tmp_path / "run").status
    assert (status["state"], status["steps"]) == ("finished", 64)
    assert status["stopped"].startswith("stop_at 4")


def test_one_that_has_stopped_goes_on_only_with_more_steps(tmp_path, monkeypatch, capfd):
    scripted(monkeypatch, {16 * i: [i] for i in range(1, 40)})
    run = small.train("PPO", tmp_path / "run", stop_at=4, patience=9, evaluate_every=16, evaluate_episodes=2)
    assert run.status["steps"] == 64
    capfd.readouterr()
    same = td.resume(run.path, progress=False)
    said = capfd.readouterr().err
    assert "the run has stopped at 64 steps (stop_at 4: eval/mean_reward is 4): to go on, give it more steps" in said
    assert same.status == run.status
    with pytest.raises(ConfigError, match=r"the run has stopped .stop_at 4.*to learn with other settings, give more"):
        td.resume(run.path, change={"clip": 0.1}, progress=False)
    longer = td.resume(run.path, steps=128, progress=False)
    assert (longer.status["state"], longer.status["steps"]) == ("finished", 128)
    assert "stopped" not in longer.status
    assert (longer.info["stop_at"], longer.info["patience"]) == (None, 9)
    assert main(["resume", str(run.path)]) == 0


def test_without_evaluations_the_return_of_a_hundred_training_episodes_counts(tmp_path):
    """Every episode of FiveSteps earns 5: from the first on the mean is 5, but one is not enough."""
    how = {"env": small.FiveSteps, "workers": "serial", "stop_at": 5.0, "steps": 800}
    run = small.train("PPO", tmp_path / "run", seeds=2, **how)
    assert run.status["stopped"] == "stop_at 5: rollout/ep_rew_mean is 5"
    episodes = {row["steps"]: row["rollout/episodes"] for row in small.rows(run)}
    last = max(episodes)
    assert min(episodes[last]) >= 100 > min(episodes[last - 32])
    never = small.train("PPO", tmp_path / "never", **how | {"stop_at": 5.1})
    assert never.status["steps"] == 800


def test_what_learns_from_a_dataset_has_evaluations_anyway(tmp_path, monkeypatch):
    data = small.train("PPO", tmp_path / "source").record(3)
    scripted(monkeypatch, {10: [1], 20: [3], 30: [2], 40: [2]})
    how = {"algorithm": td.BC(torso=small.TORSO, batch_size=8), "env": "CartPole-v1", "dataset": data, "log_every": 10}
    run = small.train("", tmp_path / "run", patience=1, steps=40, **how)
    assert (run.status["steps"], run.status["best"]) == (30, {"mean_reward": 3.0, "steps": 20})
    assert run.agent(step="best").act(np.zeros(4)) in (0, 1)


def test_runs_that_have_diverged_do_not_count():
    rows = [
        {"steps": 16, "eval/mean_reward": [None, 2.0]},
        {"steps": 32, "train/loss": [1.0, 2.0]},
        {"steps": 48, "eval/mean_reward": [None, None]},
    ]
    goals = Goals(rows, stop_at=3.0, patience=1, evaluates=True)
    assert (goals.best, goals.since) == ((2.0, 16), 0)
    row = {"steps": 64, "eval/mean_reward": [None, 3.0]}
    assert goals.see(row)
    assert goals.reached(row).startswith("stop_at 3:")
    training = Goals([], stop_at=3.0, patience=None, evaluates=False)
    cells = {"rollout/ep_rew_mean": [None, 4.0], "rollout/episodes": [7, 100]}
    assert training.reached({"steps": 16, **cells}).startswith("stop_at 3:")
    assert training.reached({"steps": 16, **cells, "rollout/episodes": [100, 99]}) == ""
    assert training.reached({"steps": 16}) == ""


@pytest.mark.parametrize(("more", "text"), [
    ({"stop_at": "475"}, "stop_at must be a return, a finite number, got '475'"),
    ({"stop_at": float("nan")}, "stop_at must be a return, a finite number, got nan"),
    ({"patience": 0, "evaluate_every": 16}, "patience must be a positive whole number, got 0"),
    ({"patience": 3}, "patience counts evaluations: give evaluate_every, too"),
])  # fmt: skip
def test_what_cannot_work(more, text, tmp_path):
    with pytest.raises(ConfigError, match=text):
        small.train("PPO", tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()


def test_the_command_line(tmp_path, capsys):
    out = tmp_path / "run"
    argv = ["train", "ppo", "CartPole-v1", *small.PPO_FLAGS, "--steps", "320", "--out", str(out)]
    assert main([*argv, "--stop-at", "1", "--patience", "5", "--evaluate-every", "32"]) == 0
    said = capsys.readouterr().out
    assert "stopped  at 32 of 320 steps; stop_at 1: eval/mean_reward is " in said
    assert td.open_run(out).info["patience"] == 5


@pytest.mark.slow
def test_ppo_on_cartpole_stops_where_it_has_learned(tmp_path):
    """The README's line: it takes less than half of the preset's steps."""
    how = {"evaluate_every": 10_000, "stop_at": 475, "progress": False}
    run = td.train("ppo", "CartPole-v1", 200_000, out=tmp_path / "run", **how)
    assert run.status["steps"] <= 100_000
    assert run.evaluate(50, step="best").mean >= 450
