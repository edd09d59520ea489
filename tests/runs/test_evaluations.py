"""Evaluation while training: on its own keys and environments, at its own steps, resumed bit for bit."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.drivers.evaluate import hosted
from thorndike.errors import ConfigError
from thorndike.runs.training import evaluation, loop
from thorndike.runs.training.evaluation import SEEDS, Evaluator

EVERY = {"evaluate_every": 48, "evaluate_episodes": 4}
AT = [48, 96, 144, 192, 240, 288, 320]
TAGS = ("eval/mean_reward", "eval/std", "eval/ep_len_mean")


def parted(run: td.Run) -> tuple[list[dict], list[dict]]:
    """Rows without what evaluations said, of those of training alone; and those with an evaluation."""
    rows = small.rows(run)
    training = [{k: v for k, v in row.items() if k not in TAGS} for row in rows if row["steps"] % 32 == 0]
    return training, [row for row in rows if TAGS[0] in row]


@pytest.mark.parametrize("name", ["PPO", "DQN"])
def test_training_is_the_same_with_and_without(name, runs, tmp_path):
    run = small.train(name, tmp_path / "run", **EVERY)
    assert small.differing(small.arrays(run), small.arrays(runs(name))) == []
    training, evaluated = parted(run)
    assert training == small.rows(runs(name))
    assert [row["steps"] for row in evaluated] == AT
    assert len(small.rows(run)) == 10 + 3  # 48, 144 and 240 are of evaluations alone
    last = run.evaluate(4, seed=SEEDS + 320)
    assert evaluated[-1]["eval/mean_reward"] == pytest.approx(last.mean)
    assert evaluated[-1]["eval/std"] == pytest.approx(last.returns.std())
    assert evaluated[-1]["eval/ep_len_mean"] == pytest.approx(last.lengths.mean())


def test_steps_between_evaluations_are_rounded_to_rollouts(tmp_path, no_training):
    def every(steps: int) -> int:
        path = tmp_path / str(steps)
        return td.train(small.PPO, "CartPole-v1", 320, evaluate_every=steps, out=path, progress=False).info[
            "evaluate_every"
        ]

    assert [every(steps) for steps in (1, 16, 40, 41, 10**9)] == [16, 16, 32, 48, 10**9]


@pytest.mark.parametrize("where", ["before", "in the midst of"])
def test_a_run_stopped_at_an_evaluation_goes_on_bit_for_bit(where, tmp_path, monkeypatch):
    """At step 96 a row of training's metrics and an evaluation are due: neither is lost, and neither comes twice."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    whole = small.train("PPO", tmp_path / "whole", seeds=2, **EVERY)
    play, left = Evaluator.play, [96, 288]

    def stopping(self, algorithm, actors, env, seed, interrupted):
        if left and seed == SEEDS + left[0]:
            left.pop(0)
            os.kill(os.getpid(), signal.SIGINT)
            if where == "before":
                return None
        return play(self, algorithm, actors, env, seed, interrupted)

    monkeypatch.setattr(Evaluator, "play", stopping)
    with pytest.raises(KeyboardInterrupt):
        small.train("PPO", tmp_path / "run", seeds=2, **EVERY)
    stopped = td.open_run(tmp_path / "run")
    assert stopped.status["steps"] == 96
    assert [row["steps"] for row in small.rows(stopped)] == [32, 48, 64]
    with pytest.raises(KeyboardInterrupt):
        td.resume(stopped.path, progress=False)
    done = td.resume(stopped.path, progress=False)
    assert left == []
    assert small.differing(small.arrays(done), small.arrays(whole)) == []
    assert small.rows(done) == small.rows(whole)
    assert all(len(row["eval/mean_reward"]) == 2 for row in parted(done)[1])


def test_each_run_is_evaluated_as_itself_and_one_that_diverged_is_not(tmp_path):
    rates = np.array([1e-3, 1e30, 0.3])
    algorithm = td.PPO(**{**vars(small.PPO), "learning_rate": rates})
    run = small.train("PPO", tmp_path / "run", algorithm=algorithm, **EVERY)
    last = parted(run)[1][-1]
    assert all(last[tag][1] is None for tag in TAGS)
    means = run.evaluate(4, seed=SEEDS + 320).per_run
    assert last["eval/mean_reward"][::2] == pytest.approx(means[::2])
    assert means[0] != means[2]


# --- on the host, and from a dataset ----------------------------------------------------------------------------------


class Seeded(small.FiveSteps):
    """Remembers which environments were made, what they were seeded with and how often each was stepped."""

    made: list = []

    def __init__(self):
        self.made.append(self)
        self.seeds, self.steps, self.closed = [], 0, False

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.steps += 1
        return super().step(action)

    def close(self):
        self.closed = True


def test_environments_on_the_host_are_made_once_and_are_not_those_of_training(tmp_path):
    Seeded.made.clear()
    run = small.train("PPO", tmp_path / "run", env=Seeded, workers="serial", evaluate_every=160, evaluate_episodes=12)
    evaluated = parted(run)[1]
    assert [(row["steps"], row["eval/mean_reward"], row["eval/std"]) for row in evaluated] == [(160, 5, 0), (320, 5, 0)]
    used = [env for env in Seeded.made if env.steps]
    training, playing = used[:2], used[2:]
    assert [env.steps for env in training] == [160, 160]
    assert [env.steps for env in playing] == [2 * 10] * 8  # 2 evaluations of 2 episodes in each of 8 environments
    seeds = [[seed for seed in env.seeds if seed is not None] for env in used]
    assert all(len(some) == 1 for some in seeds)  # they go on with episodes of their own
    assert len({seed for some in seeds for seed in some}) == 10
    assert all(env.closed for env in Seeded.made)


def test_an_instance_in_training_does_not_play(tmp_path):
    """One environment is stepped itself where one is needed: an evaluation of one episode would need one."""
    Seeded.made.clear()
    env = Seeded()
    algorithm = td.DQN(**{**vars(small.DQN), "num_envs": 1, "replay_ratio": 1.0})
    how = {"env": env, "steps": 64, "evaluate_every": 32, "evaluate_episodes": 1}
    run = small.train("DQN", tmp_path / "run", algorithm=algorithm, workers="serial", **how)
    assert env.steps == 64
    assert [row["eval/ep_len_mean"] for row in parted(run)[1]] == [5, 5]


def test_an_environment_that_fails_while_it_is_evaluated_stops_the_run(tmp_path, monkeypatch):
    step = small.FiveSteps.step
    calls = iter(range(160 + 3))
    monkeypatch.setattr(
        small.FiveSteps, "step", lambda self, a: step(self, a) if next(calls, None) is not None else 1 / 0
    )
    with pytest.raises(td.EnvError, match="ZeroDivisionError"):
        small.train("PPO", tmp_path / "run", env=small.FiveSteps, workers="serial", evaluate_every=160)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_what_learns_from_a_dataset_has_the_same_names(tmp_path):
    data = small.train("PPO", tmp_path / "run").record(5)
    algorithm = td.BC(torso=small.TORSO, batch_size=8)
    how = {"algorithm": algorithm, "env": "CartPole-v1", "dataset": data, "steps": 40, "log_every": 10}
    each = small.train("", tmp_path / "each", **how)
    assert [row["steps"] for row in parted(each)[1]] == [10, 20, 30, 40]
    for row in small.rows(each):
        assert row["rollout/ep_rew_mean"] == pytest.approx(row["eval/mean_reward"])
        assert row["rollout/ep_len_mean"] == pytest.approx(row["eval/ep_len_mean"])
    seldom = small.train("", tmp_path / "seldom", evaluate_every=20, evaluate_episodes=120, **how)
    assert [row["steps"] for row in small.rows(seldom) if TAGS[0] in row] == [20, 40]
    rows = small.rows(seldom)
    assert rows[0]["rollout/ep_rew_mean"] is None
    assert rows[2]["rollout/ep_rew_mean"] == rows[1]["rollout/ep_rew_mean"]  # of the last evaluation
    assert small.differing(small.arrays(each), small.arrays(seldom)) == [
        ".episodes.count",
        ".episodes.lengths",
        ".episodes.returns",
    ]


@pytest.mark.parametrize(("more", "text"), [
    ({"evaluate_every": 0}, "evaluate_every must be a positive number of steps, got 0"),
    ({"evaluate_every": 16, "evaluate_episodes": 0}, "evaluate_episodes must be a positive whole number, got 0"),
    ({"evaluate_every": 16, "evaluate_episodes": 2.5}, "evaluate_episodes must be a positive whole number, got 2.5"),
])  # fmt: skip
def test_what_cannot_be_evaluated(more, text, tmp_path):
    with pytest.raises(ConfigError, match=text):
        small.train("PPO", tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()


def test_a_signal_is_heard_while_agents_play(tmp_path, monkeypatch):
    """On the host, between two steps: 10,000 episodes would take minutes."""
    asked = []

    def listening(*args, interrupted, **more):
        def ask():
            asked.append(1)
            if len(asked) == 50:
                os.kill(os.getpid(), signal.SIGTERM)
            return interrupted()

        return hosted(*args, interrupted=ask, **more)

    monkeypatch.setattr(evaluation, "hosted", listening)
    with pytest.raises(SystemExit):
        small.train(
            "PPO", tmp_path / "run", env=small.FiveSteps, workers="serial", evaluate_every=160, evaluate_episodes=10_000
        )
    assert len(asked) == 50
    run = td.open_run(tmp_path / "run", env=small.FiveSteps)
    assert (run.status["state"], run.status["steps"]) == ("interrupted", 160)
