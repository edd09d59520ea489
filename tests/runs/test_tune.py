"""`td.tune` with a population: every trial is a training of its own, also where it was stopped and goes on."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.configuration import to_json
from thorndike.errors import CheckpointError, ConfigError, DivergedError, IncompatibleError
from thorndike.runs.storage import checkpoint
from thorndike.runs.tuning import population

OVER = {"learning_rate": td.LogRange(1e-4, 1e-1), "clip": td.Range(0.1, 0.4)}
STEPS, TRIALS = 256, 8


def tune(out, algorithm=small.PPO, env="CartPole-v1", over=OVER, **more):
    more = {"trials": TRIALS, "steps": STEPS, "factor": 2, "first": 1 / 4, "progress": False, **more}
    return td.tune(algorithm, env, over, out=out, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tune(tmp_path_factory.mktemp("tune") / "whole")


def weights(agent):
    return [np.asarray(leaf.weight) for leaf in agent.actor.policy.torso.mlp.layers]


def lines(found):
    return [json.loads(line) for line in (found.path / "trials.jsonl").read_text().splitlines()]


def test_the_best_trial_is_a_training_of_its_own(whole, tmp_path):
    """Trained alone, to the end, without cuts: the same agent, up to the rounding of a batched program."""
    alone = td.train(whole.best, "CartPole-v1", STEPS, out=tmp_path / "alone", progress=False)
    for a, b in zip(weights(whole.agent()), weights(alone.agent()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    returns = alone.episodes()
    late = returns["return"][-max(10, int((returns["step"] > 192).sum())) :]
    known = returns["return"][returns["step"] > 128]  # of the last round, which is all that its run has
    assert whole.score == pytest.approx(late.mean() if len(known) >= len(late) else known.mean())
    other = dataclasses.replace(whole.best, learning_rate=0.09)
    far = td.train(other, "CartPole-v1", STEPS, out=tmp_path / "far", progress=False)
    assert max(np.abs(a - b).max() for a, b in zip(weights(whole.agent()), weights(far.agent()))) > 1e-3


def test_the_better_part_goes_on_and_does_no_step_twice(tmp_path):
    found = tune(tmp_path / "run", steps=2048)
    rounds = {i: [line for line in lines(found) if line["round"] == i] for i in (1, 2, 3)}
    kept = [len(rounds[i]) for i in rounds]
    assert kept[0] == 8
    assert 2 <= kept[2] <= kept[1] < 8
    for i in (1, 2):
        order = sorted((line["score"] for line in rounds[i]), reverse=True)
        quota = (4, 2)[i - 1]
        best = {line["trial"] for line in rounds[i] if line["score"] >= order[quota - 1]}
        assert {line["trial"] for line in rounds[i + 1]} == best
    last = max(rounds[3], key=lambda x: x["score"])
    assert (last["trial"], last["score"]) == (found.trials[0].number, found.score)
    assert [trial.steps for trial in found.trials] == sorted((trial.steps for trial in found.trials), reverse=True)
    for i, before in enumerate([0, 512, 1024]):
        run = td.open_run(found.path / f"round-{i + 1}")
        metrics = run.metrics()
        assert metrics["steps"][0] == before + 128
        assert metrics["rollout/ep_rew_mean"].shape[1] == kept[i]
        assert (run.episodes()["step"] > before).all()
    assert not (found.path / "round-1" / "checkpoints").exists()  # round 2 has all of it that goes on


def test_a_trial_that_begins_anew_would_be_seen(tmp_path, monkeypatch):
    """A next round without the checkpoint trains from the first step again: its rows show it."""
    part = population.part

    def without_checkpoint(run, configurations, path, step):
        part(run, configurations, path, step)
        shutil.rmtree(path / "checkpoints")

    monkeypatch.setattr(population, "part", without_checkpoint)
    found = tune(tmp_path / "run")
    assert td.open_run(found.path / "round-2").metrics()["steps"][0] == 16


def test_agents_that_are_swapped_would_be_seen(tmp_path, monkeypatch):
    """A next round whose arrays and settings are of different trials has another agent."""
    part = population.part

    def turned(run, configurations, path, step):
        part(run, configurations, path, step)
        found, meta = checkpoint.load(checkpoint.place(path / "checkpoints", step))
        checkpoint.save_arrays(path / "checkpoints", step, {name: x[::-1] for name, x in found.items()}, meta)

    monkeypatch.setattr(population, "part", turned)
    wrong = tune(tmp_path / "run")
    alone = td.train(wrong.best, "CartPole-v1", STEPS, out=tmp_path / "alone", progress=False)
    both = zip(weights(wrong.agent()), weights(alone.agent()), strict=True)
    assert not all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in both)


def test_what_was_found(whole, tmp_path, capsys):
    assert whole.trials[0].settings == whole.settings
    assert {name: getattr(whole.best, name) for name in OVER} == whole.settings
    own = next(trial for trial in whole.trials if trial.number == 0)
    assert own.settings == {"learning_rate": 3e-4, "clip": 0.2}  # the algorithm's own setting is the first trial
    text = str(whole)
    assert text.startswith("PPO on CartPole-v1: 8 trials of 256 steps, 4 to the end\ntrial  score")
    assert f"best    learning_rate={whole.settings['learning_rate']:.4g}" in text
    assert json.loads(json.dumps(whole.to_json()))["trials"][0]["score"] == whole.score
    assert whole.agent().act(np.zeros(4)) in (0, 1)


def test_the_preset_that_it_writes(whole, tmp_path, monkeypatch):
    from thorndike.commands import train

    file = whole.path / "preset.json"
    monkeypatch.chdir(tmp_path)
    run = td.train("ppo", "CartPole-v1", preset=file, out=tmp_path / "run", progress=False)
    assert to_json(run.algorithm) == to_json(whole.best)
    assert run.info["steps"] == STEPS
    seen = []
    monkeypatch.setattr(train, "train", lambda algorithms, env, options: seen.append((algorithms[0], options.steps)))
    for words in (["--preset", str(file)], [f"--preset={file}", "--clip", "0.15"]):
        train.main(["ppo", "CartPole-v1", *words])
    assert seen[0] == (whole.best, STEPS)
    assert seen[1] == (dataclasses.replace(whole.best, clip=0.15), STEPS)
    with pytest.raises(ConfigError, match=r"preset.json has settings of PPO, and this is DQN: name that algorithm"):
        td.train("dqn", "CartPole-v1", preset=file)
    with pytest.raises(ConfigError, match="preset= is for an algorithm's name: a value is used as it is"):
        td.train(small.PPO, "CartPole-v1", preset=file)
    with pytest.raises(ConfigError, match=r"there is no preset .*absent.json: give the file that td.tune"):
        td.train("ppo", "CartPole-v1", preset=tmp_path / "absent.json")
    for text in ("", "[]", '{"preset": 1}', '{"preset": 1, "algorithm": {"type": "PPO", "clip": "x"}, "steps": 3}'):
        Path("broken.json").write_text(text)
        with pytest.raises(ConfigError, match=r"broken.json is no preset|PPO.clip should be"):
            td.train("ppo", "CartPole-v1", preset="broken.json")


# --- stopped, and going on --------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As a kill does, it goes through every `except Exception`."""


def stopped_by_hand(monkeypatch, out):
    small.interrupt(monkeypatch, 32)
    with pytest.raises(KeyboardInterrupt):
        tune(out)


def killed_before_the_journal(monkeypatch, out):
    def append(self, lines):
        raise Killed

    monkeypatch.setattr(population.Journal, "append", append)
    with pytest.raises(Killed):
        tune(out)


def killed_between_rounds(monkeypatch, out):
    def resume(*args, **options):
        raise Killed

    monkeypatch.setattr(population, "resume", resume)
    with pytest.raises(Killed):
        tune(out)
    assert (out / "round-2" / "run.json").exists()


def killed_while_a_round_is_made(monkeypatch, out):
    def write_json(path, data):
        raise Killed

    monkeypatch.setattr(population, "write_json", write_json)
    with pytest.raises(Killed):
        tune(out)
    assert (out / "round-2" / "checkpoints").exists()


def killed_in_the_midst_of_a_line(monkeypatch, out):
    killed_between_rounds(monkeypatch, out)
    journal = out / "trials.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])


def killed_before_the_word_of_it(monkeypatch, out):
    """The checkpoint at the end of the first round is there, and the status does not say so."""
    killed_between_rounds(monkeypatch, out)
    for name in ("round-2", "trials.jsonl"):
        population.shutil.rmtree(out / name) if name == "round-2" else (out / name).unlink()
    status = json.loads((out / "round-1" / "status.json").read_text())
    (out / "round-1" / "status.json").write_text(json.dumps({**status, "state": "running"}))


ENDS = [
    stopped_by_hand, killed_before_the_journal, killed_between_rounds, killed_while_a_round_is_made,
    killed_in_the_midst_of_a_line, killed_before_the_word_of_it,
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_it_goes_on_where_it_was(end, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        if end is killed_before_the_word_of_it:
            patch.setattr(population.shutil, "rmtree", keeping(population.shutil.rmtree))
        end(patch, tmp_path / "run")
    again = tune(tmp_path / "run")
    assert again.trials == whole.trials
    assert end is killed_in_the_midst_of_a_line or lines(again) == lines(whole)
    for a, b in zip(weights(again.agent()), weights(whole.agent()), strict=True):
        assert np.array_equal(a, b)


def keeping(remove):
    """Checkpoints stay, as before the next round is made."""
    return lambda path, **options: None if Path(path).name == "checkpoints" else remove(path, **options)


def test_what_is_done_is_not_done_again(whole, monkeypatch):
    monkeypatch.setattr(population, "train", None)
    monkeypatch.setattr(population, "resume", None)
    assert tune(whole.path).trials == whole.trials
    with pytest.raises(ConfigError, match="holds a tune with other trials, seed: ask for the same to go on with it"):
        tune(whole.path, trials=9, seed=1)


def test_a_round_that_was_trained_on_by_hand_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_before_the_journal(patch, tmp_path / "run")
    td.resume(tmp_path / "run" / "round-1", 128, progress=False)
    with pytest.raises(CheckpointError, match=r"round-1 was trained on to 128 steps: delete"):
        tune(tmp_path / "run")


CASE = """
import sys, thorndike as td
over = {"learning_rate": td.LogRange(1e-4, 1e-1), "clip": td.Range(0.1, 0.4)}
algorithm = td.PPO(torso=td.Torso(widths=(16,), init="uniform"), num_envs=4, rollout_length=32, minibatch_size=32)
print(td.tune(algorithm, "CartPole-v1", over, trials=8, steps=40_000, factor=2, out=sys.argv[1], progress=False))
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    def start(name):
        return subprocess.Popen([sys.executable, "-c", CASE, tmp_path / name], stdout=subprocess.PIPE)

    expected = start("whole").communicate(timeout=300)[0].decode().splitlines()[:-1]
    rng, kills = random.Random(0), 0
    for _ in range(8):
        process = start("killed")
        time.sleep(rng.uniform(2, 9))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills > 1
    again = start("killed").communicate(timeout=300)[0].decode().splitlines()[:-1]
    assert again[1:] == expected[1:]


# --- what else there is -----------------------------------------------------------------------------------------------


def test_a_trial_that_diverges_is_last(tmp_path):
    over = {**OVER, "learning_rate": td.Choices(1e-3, 1e-2, 2e-2, 3e38)}
    found = tune(tmp_path / "run", over=over)
    lost = [trial for trial in found.trials if trial.settings["learning_rate"] == 3e38]
    assert list(found.trials[-2:]) == lost
    assert [trial.diverged for trial in found.trials] == [False] * 6 + [True] * 2
    assert "2 diverged or refused" in str(found)
    over = {**OVER, "learning_rate": td.Range(2e38, 3e38)}
    with pytest.raises(DivergedError, match=r"all 8 trials have diverged by step 64: give other ranges"):
        tune(tmp_path / "all", over=over)


def test_seeds_of_one_setting_are_averaged_and_stay_together(tmp_path):
    found = tune(tmp_path / "run", trials=4, seeds=2, first=1 / 2)
    last = td.open_run(found.path / "round-2")
    assert last.runs % 2 == 0
    best = [member for member in last.members() if member["clip"] == pytest.approx(found.settings["clip"])]
    assert [member["seed"] for member in best] == [0, 1]
    found_there = last.episodes()
    means = []
    for i, member in enumerate(last.members()):
        own = found_there["member"] == i
        late = max(10, int((found_there["step"][own] > 192).sum()))
        means += [found_there["return"][own][-late:].mean()] if member in best else []
    assert found.score == pytest.approx(np.mean(means))


def test_what_replays_goes_on_with_its_memory(tmp_path):
    over = {"learning_rate": td.LogRange(1e-4, 1e-1)}
    found = tune(tmp_path / "run", algorithm=small.DQN, over=over, trials=2)
    assert found.trials[0].steps == STEPS
    assert td.open_run(found.path / "round-2").metrics()["steps"][0] > 64
    alone = td.train(found.best, "CartPole-v1", STEPS, out=tmp_path / "alone", progress=False)
    for a, b in zip(jax.tree.leaves(found.agent().actor), jax.tree.leaves(alone.agent().actor), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_what_has_no_returns_is_refused(tmp_path):
    pytest.importorskip("pgx")
    with pytest.raises(IncompatibleError, match=r"an agent's return says nothing of how well it plays"):
        td.tune("alphazero", "pgx/tic_tac_toe", {"learning_rate": td.LogRange(1e-4, 1e-2)}, out=tmp_path / "run")
