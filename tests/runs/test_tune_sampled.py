"""`td.tune` by Optuna: fields that programs are compiled for, and environments on the host."""

from __future__ import annotations

import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.commands.tune import over as read
from thorndike.errors import ConfigError, DivergedError
from thorndike.runs.tuning import sampled
from thorndike.runs.tuning.sampled import Pruning, Search

pytest.importorskip("optuna")

OVER = {"learning_rate": td.LogRange(1e-4, 1e-1), "clip": td.Choices(0.1, 0.2, 0.3)}
STEPS = 256


def tune(out, algorithm=small.PPO, env="CartPole-v1", over=OVER, **more):
    more = {"trials": 4, "steps": STEPS, "method": "optuna", "progress": False, **more}
    return td.tune(algorithm, env, over, out=out, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tune(tmp_path_factory.mktemp("tune") / "whole")


def test_each_trial_is_a_training(whole):
    assert [trial.number for trial in sorted(whole.trials, key=lambda x: x.number)] == list(range(4))
    for trial in whole.trials:
        run = td.open_run(whole.path / f"trial-{trial.number + 1:03}")
        assert run.status["steps"] == trial.steps
        assert {name: getattr(run.algorithm, name) for name in OVER} == pytest.approx(trial.settings)
        returns = run.episodes()
        late = int((returns["step"] > 0.75 * trial.steps).sum())
        if len(returns["return"]):
            assert trial.score == pytest.approx(returns["return"][-max(late, 10) :].mean())
    finished = [trial for trial in whole.trials if trial.steps == STEPS and not np.isnan(trial.score)]
    assert whole.score == max(trial.score for trial in finished)
    assert whole.agent().algorithm.learning_rate == pytest.approx(whole.settings["learning_rate"])


@pytest.mark.parametrize("after", [0, 2])
def test_a_search_that_was_killed_finds_the_same(after, whole, tmp_path, monkeypatch):
    train, calls = sampled.train, []

    def killed(*args, **options):
        calls.append(args)
        if len(calls) > after:
            raise KeyboardInterrupt
        return train(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sampled, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(tmp_path / "run")
    seen = []
    monkeypatch.setattr(sampled, "train", lambda *args, **options: (seen.append(1), train(*args, **options))[1])
    again = tune(tmp_path / "run")
    assert len(seen) == 4 - after
    assert again.trials == whole.trials


def test_proposals_follow_from_the_seed(whole, tmp_path):
    both = whole, tune(tmp_path / "run", trials=2, seed=1)
    numbered = [{trial.number: trial.settings for trial in found.trials} for found in both]
    assert numbered[0][0] == numbered[1][0]  # the algorithm's own
    assert numbered[0][1] != numbered[1][1]


def test_static_fields_on_the_host(tmp_path):
    over = {"epochs": td.Range(1, 2), "torso.widths": td.Choices((4,), (8,)), "learning_rate": td.LogRange(1e-3, 1e-2)}
    found = tune(
        tmp_path / "run", small.PPO, small.FiveSteps, over, trials=2, steps=64, method="auto", workers="serial"
    )
    assert [trial.score for trial in found.trials] == [5.0, 5.0]
    assert all(trial.settings["epochs"] in (1, 2) for trial in found.trials)
    assert found.best.torso.widths in ((4,), (8,))
    assert found.agent().act(np.zeros(4)) in (0, 1)


def test_a_setting_that_cannot_be_trained_is_last(tmp_path, capsys, monkeypatch):
    """Each value may be right, and not the two together."""
    train = sampled.train

    def particular(algorithm, *args, **options):
        if algorithm.clip != 0.2:
            raise ConfigError("clip and the rest do not fit")
        return train(algorithm, *args, **options)

    monkeypatch.setattr(sampled, "train", particular)
    found = tune(tmp_path / "run", trials=5)
    good = [trial for trial in found.trials if not trial.diverged]
    assert {trial.settings["clip"] for trial in good} == {0.2}
    assert 0 < len(good) < 5
    assert {trial.settings["clip"] for trial in found.trials[len(good) :]} <= {0.1, 0.3}
    assert "cannot be trained: clip and the rest do not fit" in capsys.readouterr().err
    monkeypatch.setattr(sampled, "train", lambda *args, **options: particular(small.PPO, clip=1))
    over = {**OVER, "clip": td.Choices(0.1, 0.3)}
    monkeypatch.setattr(sampled, "train", particular)
    with pytest.raises(ConfigError, match=r"none of the 2 settings could be trained; of one it is said: clip and"):
        tune(tmp_path / "none", over=over, trials=2)


def test_where_no_episode_ends_it_is_said(tmp_path):
    found = tune(tmp_path / "run", steps=16, trials=1)
    assert found.notes == ("no episode has ended in time: nothing is known of these settings, give more steps",)


def test_trials_that_diverge(tmp_path, monkeypatch):
    def diverges(algorithm, *args, **options):
        raise DivergedError("nan")

    monkeypatch.setattr(sampled, "train", diverges)
    with pytest.raises(DivergedError, match=r"all 2 trials have diverged: give other ranges"):
        tune(tmp_path / "run", trials=2)


def test_what_is_below_the_median_is_stopped():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(2, n_warmup_steps=100))

    class Run:
        info = {"steps": 1000}

    for level, stops in ((10.0, None), (12.0, None), (5.0, 200), (20.0, None)):
        trial = study.ask()
        pruning, stopped = Pruning(trial), None
        for step in range(50, 1001, 50):
            if pruning(
                Run, {"steps": step, "rollout/ep_rew_mean": [level + step / 1000, None if step < 200 else level]}
            ):
                stopped = step
                break
        assert (stopped, pruning.pruned) == (stops, stops is not None)
        study.tell(trial, level, state=optuna.trial.TrialState.COMPLETE)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "name", "expected"), [
    ("learning_rate=1e-4..1e-2", "learning_rate", td.LogRange(1e-4, 1e-2)),
    ("learning-rate=linear:1e-4..1e-2", "learning_rate", td.Range(1e-4, 1e-2)),
    ("clip=0.1..0.3", "clip", td.Range(0.1, 0.3)),
    ("clip=log:0.1..0.3", "clip", td.LogRange(0.1, 0.3)),
    ("log_std=-2..0", "log_std", td.Range(-2.0, 0.0)),
    ("num_envs=4,8", "num_envs", td.Choices(4, 8)),
    ("target_kl=none,0.01", "target_kl", td.Choices(None, 0.01)),
    ("shared_torso=true,false", "shared_torso", td.Choices(True, False)),
    ("torso.activation=relu,tanh", "torso.activation", td.Choices("relu", "tanh")),
    ("torso.widths=64,64/256,256/32", "torso.widths", td.Choices((64, 64), (256, 256), (32,))),
])  # fmt: skip
def test_ranges_as_words(word, name, expected):
    assert read(word, td.PPO()) == (name, expected)
    assert type(read(word, td.PPO())[1]) is type(expected)


@pytest.mark.parametrize("word", ["learning_rate", "learning_rate=", "=1..2", "clip=a..b", "clip=1..", "clip=..2"])
def test_words_that_are_no_ranges(word):
    with pytest.raises(ConfigError, match=r"takes words such as|needs a number on each side of the dots"):
        read(word, td.PPO())


def test_the_command(tmp_path, capsys, monkeypatch):
    from thorndike.cli import main
    from thorndike.runs.tuning import tune as module

    asked = []
    search = module.tune
    monkeypatch.setattr(module, "tune", lambda *args, **options: (asked.append(options), search(*args, **options))[1])
    words = ["tune", "ppo", "CartPole-v1", *small.PPO_FLAGS, "--over", "learning_rate=1e-4..1e-1", "clip=0.1,0.2"]
    words += ["--method", "optuna", "--trials", "2", "--steps", "256", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "PPO on CartPole-v1: 2 trials of 256 steps" in out
    assert f"thorndike train ppo CartPole-v1 --preset {tmp_path / 'run' / 'preset.json'}" in out
    assert main([*words, "--json"]) == 0
    assert '"trials": [{"number": ' in capsys.readouterr().out
    for wrong, says in (
        (["tune"], "say what to tune on what"),
        (["tune", "ppo", "CartPole-v1"], "say what to tune, and over what"),
        (["tune", "ppo", "CartPole-v1", "--over", "clip=0.3..0.1"], "the range of clip is empty"),
        (["tune", "ppo", "CartPole-v1", "--over", "clip=0.1..0.3", "--trials", "0"], "trials must be a whole number"),
    ):
        assert main(wrong) == 2
        assert says in capsys.readouterr().err
    assert asked[0]["trials"] == 2


def test_optuna_that_is_not_there_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    search = Search(small.PPO, "CartPole-v1", OVER, 1, 1, 0.1, 0, tmp_path, {"progress": False})
    with pytest.raises(td.MissingExtraError, match=r"optuna"):
        search.run()
