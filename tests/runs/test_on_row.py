"""Functions that are called with every row, and the ready ones that log to other tools; these are small fakes here."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
import time
import types

import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.cli import main
from thorndike.errors import ConfigError, MissingExtraError
from thorndike.runs.training import loop

SWEEP = dataclasses.replace(small.PPO, learning_rate=np.array([1e-3, 1e-2]))


def test_a_function_sees_each_row_and_may_add_to_it(ppo, tmp_path):
    seen = []

    def watch(run, row):
        assert run.path == tmp_path / "run"
        seen.append(dict(row))
        return {"own/steps": row["steps"] / 7, "own/nothing": np.nan}

    def after(run, row):
        assert row["own/steps"] == pytest.approx(row["steps"] / 7)

    run = small.train("PPO", tmp_path / "run", on_row=[watch, after], evaluate_every=160, evaluate_episodes=2)
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in row.items() if not k.startswith("own/")} for row in rows] == seen
    assert [row["own/steps"] for row in rows] == pytest.approx([32 * i / 7 for i in range(1, 11)], rel=1e-6)
    assert rows[0]["own/nothing"] is None
    assert run.metrics()["own/steps"].shape == (10, 1)
    assert small.differing(small.arrays(run), small.arrays(ppo)) == []


def test_several_agents_have_lists_of_numbers(tmp_path):
    def add(run, row):
        assert len(row["train/loss"]) == 2
        return {"gap": [1, 2], "one": np.float32(3)}

    run = small.train("PPO", tmp_path / "run", seeds=2, on_row=add, steps=32)
    assert run.metrics()["gap"].tolist() == [[1, 2]]
    assert run.metrics()["one"].tolist() == [[3]]


@pytest.mark.parametrize("env", [None, small.FiveSteps])
def test_a_function_may_stop_training(env, tmp_path, capfd):
    def enough(run, row):
        return td.STOP if row["steps"] == 96 else None

    how = {} if env is None else {"env": env, "workers": "serial"}
    run = small.train("PPO", tmp_path / "run", on_row=enough, **how)
    assert (run.status["state"], run.status["steps"]) == ("finished", 96)
    assert run.status["stopped"] == "on_row: enough said so"
    assert "stopped at 96 steps: on_row: enough said so" in capfd.readouterr().err
    assert [row["steps"] for row in small.rows(run)] == [32, 64, 96]
    assert small.arrays(run)[".steps"] == 96


def fails(run, row):
    raise ZeroDivisionError("of the user's")


@pytest.mark.parametrize(("function", "text"), [
    (fails, "warning: fails failed, and training goes on: ZeroDivisionError: of the user's ("),
    (lambda run, row: 3, "TypeError: on_row functions answer nothing, td.STOP or a dict of names and numbers"),
    (lambda run, row: {"a": "b"}, "TypeError: on_row functions answer nothing"),
    (lambda run, row: {"a": [1.0, 2.0]}, "TypeError: on_row functions answer nothing"),
    (lambda run, row: {"steps": 1}, "TypeError: on_row functions answer nothing"),
    (lambda run, row: {3: 1}, "TypeError: on_row functions answer nothing"),
])  # fmt: skip
def test_one_that_fails_is_reported_once_and_never_stops_training(function, text, ppo, tmp_path, capfd):
    others = []
    run = small.train("PPO", tmp_path / "run", on_row=[function, lambda run, row: others.append(row["steps"])])
    assert capfd.readouterr().err.count(text) == 1
    assert len(others) == 10
    assert small.rows(run) == small.rows(ppo)


@pytest.mark.parametrize("on_row", [3, [len, None], td.sinks.WandB])
def test_what_is_no_function_is_refused(on_row, tmp_path):
    with pytest.raises(ConfigError, match=r"on_row must be a function of \(run, row\), or a list of such"):
        small.train("PPO", tmp_path / "run", on_row=on_row)
    assert not (tmp_path / "run").exists()


def test_it_is_given_again_to_go_on(ppo, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    seen = []

    def stopping(run, row):
        seen.append(row["steps"])
        if row["steps"] == 96:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        small.train("PPO", tmp_path / "run", on_row=stopping)
    run = td.resume(tmp_path / "run", on_row=lambda run, row: seen.append(row["steps"]), progress=False)
    assert seen == list(range(32, 321, 32))
    assert small.differing(small.arrays(run), small.arrays(ppo)) == []


# --- sinks ------------------------------------------------------------------------------------------------------------


class Session:
    """A run of W&B's."""

    def __init__(self, options):
        self.options, self.rows, self.metrics, self.finished = options, [], [], False
        self.id = options["id"] or "abc"

    def define_metric(self, *args, **how):
        self.metrics.append((args, how))

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    module = types.ModuleType("wandb")
    module.sessions = []
    module.init = lambda **options: module.sessions.append(Session(options)) or module.sessions[-1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_weights_and_biases(wandb, tmp_path):
    sink = td.sinks.WandB(project="poles", tags=["x"])
    run = small.train("PPO", tmp_path / "run", algorithm=SWEEP, on_row=sink, steps=64)
    td.resume(run.path, 96, on_row=sink, progress=False)
    first, second = wandb.sessions
    about = {name: first.options[name] for name in ("project", "tags", "name", "id", "resume")}
    assert about == {"project": "poles", "tags": ["x"], "name": "run", "id": None, "resume": "allow"}
    assert first.options["config"]["torso.widths"] == [4]
    assert first.options["config"]["environment"] == "CartPole-v1"
    assert first.metrics == [(("*",), {"step_metric": "steps"})]
    assert [row["steps"] for row in first.rows] == [32, 64]
    rows = small.rows(run)
    assert first.rows[1]["train/loss"] == pytest.approx(np.mean(rows[1]["train/loss"]))
    assert first.rows[1]["train/loss seed_0 learning_rate_0.01"] == rows[1]["train/loss"][1]
    assert "rollout/ep_rew_mean" not in first.rows[0]  # no episode has ended
    assert first.finished
    assert second.options["id"] == "abc"  # it goes on there
    assert [row["steps"] for row in second.rows] == [96]
    assert second.finished


def test_a_sink_that_cannot_begin_is_not_tried_again(wandb, tmp_path, capfd):
    tried = []

    def init(**options):
        tried.append(options)
        raise RuntimeError("no key")

    wandb.init = init
    run = small.train("PPO", tmp_path / "run", on_row=td.sinks.WandB(), steps=96)
    assert run.status["state"] == "finished"
    assert len(tried) == 1
    assert capfd.readouterr().err.count("warning: WandB failed, and training goes on: RuntimeError: no key (") == 1


@pytest.fixture
def mlflow(monkeypatch):
    module = types.ModuleType("mlflow")
    module.calls = []
    for name in ("set_experiment", "log_params", "log_metrics", "end_run"):
        setattr(module, name, lambda *args, name=name, **how: module.calls.append((name, args, how)))
    info = types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))
    module.start_run = lambda **how: module.calls.append(("start_run", (), how)) or info
    module.active_run = lambda: None
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def test_mlflow(mlflow, tmp_path):
    run = small.train("PPO", tmp_path / "run", on_row=td.sinks.MLflow("poles", tags={"a": "b"}), steps=64)
    names = [name for name, _, _ in mlflow.calls]
    assert names == ["set_experiment", "start_run", "log_params", "log_metrics", "log_metrics", "end_run"]
    assert mlflow.calls[1][2] == {"nested": False, "run_name": "run", "tags": {"a": "b"}}
    assert mlflow.calls[2][1][0]["clip"] == 0.2
    assert [how["step"] for name, _, how in mlflow.calls if name == "log_metrics"] == [32, 64]
    assert mlflow.calls[4][1][0]["train/loss"] == small.rows(run)[1]["train/loss"]
    mlflow.calls.clear()
    td.resume(run.path, 96, on_row=td.sinks.MLflow("poles"), progress=False)
    assert [name for name, _, _ in mlflow.calls] == ["set_experiment", "start_run", "log_metrics", "end_run"]
    assert mlflow.calls[1][2] == {"nested": False, "run_id": "r1"}


class Writer:
    """tensorboardX's SummaryWriter."""

    made: list = []

    def __init__(self, logdir, purge_step=None):
        self.logdir, self.purge_step, self.scalars, self.closed = logdir, purge_step, [], False
        self.summaries = []
        self.file_writer = types.SimpleNamespace(add_summary=self.summaries.append)
        os.makedirs(logdir, exist_ok=True)
        with open(os.path.join(logdir, f"events.tfevents.{len(self.made)}"), "w"):
            self.made.append(self)

    def add_scalar(self, name, value, step):
        assert np.isfinite(value)
        self.scalars.append((name, value, step))

    def close(self):
        self.closed = True


@pytest.fixture
def tensorboard(monkeypatch):
    module, summary = types.ModuleType("tensorboardX"), types.ModuleType("tensorboardX.summary")
    module.SummaryWriter = Writer
    summary.hparams = lambda settings, metrics: (("settings", settings), ("metrics", metrics))
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setitem(sys.modules, "tensorboardX.summary", summary)
    Writer.made = []
    return module


def test_tensorboard_has_a_run_for_each_agent(tensorboard, tmp_path):
    run = small.train("PPO", tmp_path / "run", algorithm=SWEEP, tensorboard=True, steps=64)
    names = ["seed_0 learning_rate_0.001", "seed_0 learning_rate_0.01"]
    assert [writer.logdir for writer in Writer.made] == [str(run.path / "tensorboard" / name) for name in names]
    rows = small.rows(run)
    for i, writer in enumerate(Writer.made):
        losses = [(value, step) for name, value, step in writer.scalars if name == "train/loss"]
        assert losses == [(row["train/loss"][i], row["steps"]) for row in rows]
        assert ("rollout/ep_rew_mean", 32) not in {(name, step) for name, _, step in writer.scalars}
        assert "time/fps" in {name for name, _, _ in writer.scalars}
        settings = dict(writer.summaries)["settings"]
        assert settings["learning_rate"] == pytest.approx([1e-3, 1e-2][i])
        assert settings["torso.widths"] == "[4]"
        assert "train/loss" in dict(writer.summaries)["metrics"]
        assert writer.purge_step == 32
        assert writer.closed
    td.resume(run.path, 96, progress=False)  # it is in run.json
    assert [writer.purge_step for writer in Writer.made[2:]] == [96, 96]
    assert all(writer.summaries == [] for writer in Writer.made[2:])


def test_one_agent_is_in_the_folder_itself_and_only_once(tensorboard, tmp_path):
    run = small.train("PPO", tmp_path / "run", tensorboard=True, on_row=td.sinks.TensorBoard(), steps=32)
    assert [writer.logdir for writer in Writer.made] == [str(run.path / "tensorboard")]


def test_tensorboard_shows_each_row_once_after_a_kill(tmp_path):
    """By the rule of TensorBoard's reader: a session that starts at a step takes what was from there on away."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    info, journal = {"environment": {"id": "x"}, "algorithm": {}}, types.SimpleNamespace(name="y")
    run = types.SimpleNamespace(path=tmp_path, runs=1, info=info, journal=journal, members=lambda: [{"seed": 0}])
    for steps in ((16, 32), (16, 32, 48), (32, 48, 64)):
        sink = td.sinks.TensorBoard()
        for step in steps:
            sink(run, {"steps": step, "loss": 1.0})
        sink.close()
        time.sleep(1.1)  # files are told apart by their second
    shown: list[int] = []
    for path in sorted((tmp_path / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event, data = event_pb2.Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.session_log.status == event.session_log.START:
                shown = [step for step in shown if step < event.step]
            shown += [event.step] * any(value.tag == "loss" for value in event.summary.value)
    assert shown == [16, 32, 48, 64]


@pytest.mark.parametrize(("sink", "module", "line"), [
    ("WandB", "wandb", r"thorndike\[wandb\]"),
    ("MLflow", "mlflow", r"thorndike\[mlflow\]"),
    ("TensorBoard", "tensorboardX", r'pip install "thorndike\[tensorboard\]"'),
])  # fmt: skip
def test_a_missing_package_is_named_before_anything_starts(sink, module, line, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=line):
        getattr(td.sinks, sink)()
    out = tmp_path / "run"
    assert main(["train", "ppo", "CartPole-v1", "--track", sink.lower(), "--out", str(out)]) == 2
    assert "pip install" in capsys.readouterr().err
    assert not out.exists()


def test_the_command_line(wandb, tensorboard, tmp_path):
    out = tmp_path / "run"
    argv = ["train", "ppo", "CartPole-v1", *small.PPO_FLAGS, "--steps", "32", "--out", str(out)]
    assert main([*argv, "--track", "wandb", "tensorboard"]) == 0
    assert [row["steps"] for row in wandb.sessions[0].rows] == [16, 32]
    assert len(Writer.made) == 1
    assert main(["resume", str(shutil.copytree(out, tmp_path / "copy")), "--steps", "48", "--track", "wandb"]) == 0
    assert wandb.sessions[1].options["id"] == "abc"
    assert len(Writer.made) == 1
