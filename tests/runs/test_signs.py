"""Warning signs: each rule on what it is for and on what it is not for, in training and afterwards."""

from __future__ import annotations

import dataclasses
import json
import math

import gymnasium
import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.cli import main
from thorndike.runs.results.doctor import diagnose
from thorndike.runs.storage.journal import Journal
from thorndike.runs.training.signs import SIGNS, Plan, Watch

N = 100


def rows(**columns) -> list[dict]:
    """A row for each of N steps; columns are arrays [N] or [N, R], or functions of the progress in [0, 1]."""
    progress = np.arange(N) / N
    cells = {tag: np.array([f(p) for p in progress]) if callable(f) else np.asarray(f) for tag, f in columns.items()}
    return [
        {"steps": 100 * (i + 1), **{tag.replace("__", "/"): np.asarray(x[i]).tolist() for tag, x in cells.items()}}
        for i in range(N)
    ]


def seen(found: list[dict]) -> list[str]:
    return [warning.sign for warning in Watch(found, 1, Plan(100 * N, 0.99)).found]


RISING = {"rollout__ep_rew_mean": lambda p: 20 + 400 * p, "rollout__episodes": lambda p: 10 + 1000 * p}
FALLING = {"rollout__ep_rew_mean": lambda p: 20 + 900 * p if p < 0.5 else max(20, 920 - 900 * p)}
CASES = {
    "values beyond returns": (
        {**RISING, "train__q_value": lambda p: 1e5 * p + 1},
        {**RISING, "train__q_value": lambda p: 90 * p},  # γ = 0.99, rewards of 1
        {**RISING, "rollout__reward_mean": lambda p: 30.0, "train__value": lambda p: 3000 * p},  # they never end
    ),
    "gradient explodes": (
        {"train__gradient_norm": lambda p: 1.0 if p < 0.8 else 1e4},
        {"train__gradient_norm": lambda p: 10 ** (1 - 2 * p)},
        {"train__gradient_norm": lambda p: 1e4 if round(100 * p) % 9 == 0 else 1.0},  # now and then
    ),
    "gradient vanishes": (
        {"train__critic_gradient_norm": lambda p: 0.1 if p < 0.5 else 0.0},
        {"train__gradient_norm": lambda p: 1e-6},
        {"train__gradient_norm": lambda p: 0.0 if round(100 * p) % 2 else 1.0},
    ),
    "entropy collapses": (
        {"rollout__ep_rew_mean": lambda p: 20 - 5 * p, "train__entropy": lambda p: 0.69 * math.exp(-30 * p)},
        {**RISING, "train__entropy": lambda p: 0.69 * math.exp(-30 * p)},  # it was certain of the right thing
        {"rollout__ep_rew_mean": lambda p: 20 - 5 * p, "train__entropy": lambda p: 1 - 5 * p},  # of a density
    ),
    "return collapses": (
        FALLING,
        RISING,
        {"rollout__ep_rew_mean": lambda p: 100 + 20 * math.sin(3 * p)},  # by little
    ),
    "return oscillates": (
        {"rollout__ep_rew_mean": lambda p: 250 - 200 * math.cos(40 * p)},
        {"rollout__ep_rew_mean": lambda p: 400 * p + 20 * math.cos(40 * p)},
        FALLING,
    ),
    "return rises, success falls": (
        {**RISING, "eval__mean_reward": lambda p: 100 - 80 * abs(p - 0.3)},
        {**RISING, "eval__mean_reward": lambda p: 400 * p},
        {"rollout__ep_rew_mean": lambda p: 100 - 50 * p, "eval__mean_reward": lambda p: 100 - 80 * p},  # both fall
    ),
    "critic explains nothing": (
        {"train__explained_variance": lambda p: -0.1},
        {"train__explained_variance": lambda p: p - 0.05},
        {"train__explained_variance": lambda p: 0.9 if p < 0.5 else -1.0},  # all returns are the same by then
    ),
    "no episode ends": (
        {"rollout__episodes": lambda p: 0.0},
        {"rollout__episodes": lambda p: float(p > 0.15)},
        {"train__loss": lambda p: p},
    ),
}  # fmt: skip


def test_every_sign_has_its_cases():
    assert {sign.name for sign in SIGNS} == set(CASES)
    assert all(sign.causes and sign.remedies for sign in SIGNS)


@pytest.mark.parametrize("name", CASES)
def test_a_sign_is_seen_where_it_is_and_only_there(name):
    wrong, *right = CASES[name]
    assert name in seen(rows(**wrong))
    for columns in right:
        assert name not in seen(rows(**columns)), columns


def test_success_rates_count_too():
    assert seen(rows(**RISING, rollout__success_rate=lambda p: 0.9 - p * 0.8)) == ["return rises, success falls"]


def test_a_healthy_run_has_none():
    columns = {
        **RISING, "eval__mean_reward": lambda p: 450 * p, "train__q_value": lambda p: 80 * p,
        "train__gradient_norm": lambda p: 0.5, "train__explained_variance": lambda p: p,
        "train__entropy": lambda p: 0.69 - 0.5 * p, "time__fps": lambda p: 1e6,
    }  # fmt: skip
    assert seen(rows(**columns)) == []


def test_one_of_several_agents_is_enough_and_each_sign_is_told_once():
    healthy, stuck = np.linspace(0, 1, N), np.full(N, -0.5)
    table = rows(train__explained_variance=np.stack([healthy, stuck, stuck], 1))
    watch = Watch([], 3, Plan(100 * N, 0.99))
    told = [warning for row in table for warning in watch.see(row)]
    assert [warning.sign for warning in told] == ["critic explains nothing"]
    assert told[0].step == 2000  # a fifth of the plan
    assert told[0].saw.endswith("and is -0.5 (agent 1; 2 of 3 agents)")
    again = Watch(table[:50], 3, Plan(100 * N, 0.99))
    assert [warning.step for warning in again.found] == [2000]
    assert [warning for row in table[50:] for warning in again.see(row)] == []


def test_rows_that_lack_something_and_numbers_that_are_not_known():
    table = rows(**CASES["critic explains nothing"][0])
    for i, row in enumerate(table):
        if i % 3:
            row["train/explained_variance"] = None
        if i % 7 == 0:
            row["eval/mean_reward"] = 1.0
    assert seen(table) == ["critic explains nothing"]


class Endless(gymnasium.Env):
    """No episode ends."""

    observation_space, action_space = small.FiveSteps.observation_space, small.FiveSteps.action_space

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, np.float32), {}

    def step(self, action):
        return np.zeros(4, np.float32), 1.0, False, False, {}


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_warning_while_training_and_in_the_status(seeds, tmp_path, capfd):
    run = small.train("PPO", tmp_path / "run", env=Endless, workers="serial", seeds=seeds)
    said = capfd.readouterr().err
    ask = f"thorndike doctor {run.journal.shell_path} says what to try"
    assert said.count("warning: no episode has ended in 160 steps") == 1
    assert ask in said
    (warning,) = [one for one in run.status["warnings"] if one["sign"] == "no episode ends"]
    assert warning["step"] == 160
    td.resume(run.path, 640, env=Endless, progress=False)
    assert "no episode has ended" not in capfd.readouterr().err  # it was said already
    assert [one["step"] for one in run.status["warnings"] if one["sign"] == "no episode ends"] == [160]


def test_a_warning_has_no_effect_on_training(tmp_path):
    algorithm = dataclasses.replace(small.PPO, discount=0.0)
    assert small.train("PPO", tmp_path / "run", algorithm=algorithm).status["state"] == "finished"


def test_the_doctor(tmp_path, capsys, monkeypatch):
    run = small.train("PPO", tmp_path / "run", env=Endless, workers="serial")
    capsys.readouterr()
    assert main(["doctor", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert "finished at 320 steps, 10 rows of metrics" in text
    assert "from step 160: no episode has ended in 160 steps" in text
    assert "usual causes: an environment without a time limit" in text
    assert "try: td.TimeLimit" in text
    assert main(["doctor", str(run.path), str(run.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["warnings"][0]["sign"] for one in found] == ["no episode ends"] * 2
    assert str(run.doctor()) == text.rstrip("\n")
    assert main(["doctor"]) == 2
    assert main(["doctor", str(tmp_path)]) == 2


def test_the_doctor_of_a_run_that_is_well_and_of_one_that_diverged(ppo, tmp_path):
    assert "no sign of trouble" in str(ppo.doctor())
    with pytest.raises(td.DivergedError):
        small.train("PPO", tmp_path / "run", algorithm=dataclasses.replace(small.PPO, learning_rate=1e30))
    text = str(diagnose(Journal(tmp_path / "run")))
    assert "diverged at" in text
    assert "was the first metric that is not finite" in text
    assert "too high a learning rate" in text


@pytest.mark.slow
def test_what_ruins_a_run_is_seen_and_what_does_not_is_not(tmp_path):
    """DQN whose target is the network itself, learned with a huge step: values run away. Presets are quiet."""
    wild = dataclasses.replace(
        td.preset("dqn", "CartPole-v1"), learning_rate=0.05, target_period=1, double=False, huber=1e6, discount=0.999
    )
    run = td.train(wild, "CartPole-v1", 30_000, out=tmp_path / "wild", progress=False)
    assert run.status["warnings"] != []
    for name, env in (("ppo", "CartPole-v1"), ("dqn", "CartPole-v1"), ("ppo", "Acrobot-v1")):
        well = td.train(name, env, seeds=2, evaluate_every=5_000, out=tmp_path / f"{name}-{env}", progress=False)
        assert "warnings" not in well.status, (name, env, well.status["warnings"])
