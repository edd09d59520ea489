"""A bench that is interrupted goes on, a row that is done is not run again, and the tables say what the records say."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from thorndike.bench import one, runner, table
from thorndike.bench.row import Row
from thorndike.bench.rows import ROWS
from thorndike.cli import main

ROW = Row("dqn", "CartPole-v1", seeds=2, steps=100, theirs=500.0, tolerance=25.0, source="somebody")
SUITE = [ROW, dataclasses.replace(ROW, algorithm="ppo"), dataclasses.replace(ROW, algorithm="a2c")]


def record(row, scores=(500.0, 480.0)):
    return {"name": row.name, "row": row.to_json(), "scores": list(scores), "seconds": 2.0, "cpu": 3.0}


def process(script):
    return subprocess.Popen([sys.executable, "-c", script], stdout=-1, stderr=-1, text=True)


class Bench:
    """A runner whose processes are short scripts: each notes that it began, and prints a record or fails."""

    def __init__(self, out, monkeypatch):
        self.out, self.begun, self.ended = out, out / "begun", []
        self.bad: dict[str, str] = {}
        monkeypatch.setattr(runner, "started", self.started)

    def started(self, suite, row, out):
        does = self.bad.get(row.algorithm, f"print({json.dumps(json.dumps(record(row)))})")
        begins = f"import os, sys, time; open({str(self.begun)!r}, 'a').write({row.algorithm + ' '!r})"
        return process(f"{begins}; {does}")

    def go(self, rows=SUITE, workers=1):
        """Run what is left of the rows; the algorithms of those that were begun."""
        runner.run("quick", list(rows), self.out, workers, lambda name, found: self.ended.append(name))
        return self.names()

    def names(self):
        words = self.begun.read_text().split() if self.begun.exists() else []
        self.begun.unlink(missing_ok=True)
        return words


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


def test_what_is_done_is_not_run_again(bench):
    assert bench.go(SUITE[:2]) == ["dqn", "ppo"]
    assert bench.go() == ["a2c"]
    assert bench.go() == []
    assert bench.ended == [row.name for row in SUITE]
    assert len((bench.out / "rows.jsonl").read_text().splitlines()) == 3


def test_a_row_that_has_changed_is_run_again_and_one_that_is_held_against_something_else_is_not(bench):
    bench.go()
    longer = dataclasses.replace(SUITE[1], steps=200)
    elsewhere = dataclasses.replace(SUITE[2], theirs=480.0, source="somebody else", threshold=400.0)
    assert bench.go([SUITE[0], longer, elsewhere]) == ["ppo"]
    for change in ({"seeds": 3}, {"fields": {"num_envs": 4}}, {"env_kwargs": {"n": 1}}, {"measure": "length"}):
        found = {**runner.records(bench.out), dataclasses.replace(ROW, **change).name: record(ROW)}
        assert not runner.done(dataclasses.replace(ROW, **change), found), change


def test_a_row_that_failed_is_tried_again(bench):
    bench.bad["ppo"] = "sys.exit('no such thing')"
    assert bench.go() == ["dqn", "ppo", "a2c"]
    assert runner.records(bench.out)["ppo/CartPole-v1"]["error"] == "no such thing"
    assert table.line(SUITE[1], runner.records(bench.out))[8] == "failed: no such thing"
    bench.bad["ppo"] = "os.kill(os.getpid(), 9)"
    assert bench.go() == ["ppo"]
    assert runner.records(bench.out)["ppo/CartPole-v1"]["error"] == "exit code -9"
    del bench.bad["ppo"]
    assert bench.go() == ["ppo"]
    assert runner.records(bench.out)["ppo/CartPole-v1"]["scores"] == [500.0, 480.0]


def test_a_line_that_was_cut_short_is_run_again(bench):
    bench.go()
    path = bench.out / "rows.jsonl"
    path.write_text(path.read_text()[:-20])
    assert bench.go() == ["a2c"]
    assert set(runner.records(bench.out)) == {row.name for row in SUITE}


def test_an_interruption_ends_what_is_under_way(bench):
    """As Ctrl-C does, while the second row runs: the first is kept, the second's process is gone."""
    pid = bench.out / "pid"
    bench.bad["ppo"] = f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    began = time.monotonic()

    def interrupt(*_):
        if pid.exists() and pid.read_text():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        with pytest.raises(KeyboardInterrupt):
            bench.go()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 30
    assert bench.names() == ["dqn", "ppo"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert set(runner.records(bench.out)) == {"dqn/CartPole-v1"}
    del bench.bad["ppo"]
    assert bench.go() == ["ppo", "a2c"]


def test_workers_share_out_the_rows_and_the_cores(bench):
    assert sorted(bench.go(workers=2)) == ["a2c", "dqn", "ppo"]
    if hasattr(os, "sched_getaffinity"):
        here = sorted(os.sched_getaffinity(0))
        assert sorted(core for share in runner.cores(len(here)) for core in share) == here
        assert all(len(share) == 1 for share in runner.cores(2 * len(here)))
        assert runner.cores(1) == [here]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_table_says_what_was_found(tmp_path):
    short = dataclasses.replace(SUITE[1], threshold=495.0)
    five = dataclasses.replace(SUITE[2], seeds=5)
    found = {
        ROW.name: record(ROW),
        short.name: record(short, [500.0, None]),
        five.name: record(five, [500.0, 490.0, 480.0, 490.0, 490.0]),
    }
    rows = [ROW, short, five, dataclasses.replace(ROW, algorithm="trpo")]
    assert table.write("quick", rows, found, {"bc": "why"}, tmp_path) == "4 rows: 2 met, 1 short, 1 not run"
    text = (tmp_path / "learning.md").read_text()
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "| 490 [480, 500] of 2 runs, fewer than 5: 500, 480 | 500; somebody | ≥ 475 | met | 3 s |" in lines["dqn"]
    assert "| 500 of 2 runs, fewer than 5; 1 of 2 diverged | 500; somebody | ≥ 495 | short |" in lines["ppo"]
    assert "| 490 [48" in lines["a2c"]
    assert "fewer" not in lines["a2c"]
    assert lines["trpo"].endswith("|  | 500; somebody | ≥ 475 | not run |  |")
    assert "- `bc`: why" in text
    page = (tmp_path / "learning.html").read_text()
    assert page.count("<tr>") == 6
    assert "500 of 2 runs, fewer than 5; 1 of 2 diverged" in page


def test_a_row_is_trained_and_measured(tmp_path):
    """The whole way, for tables; what an interrupted process left is in nobody's way."""
    row = Row("value-iteration", "GridWorld", seeds=2, measure="length", episodes=4, theirs=14.0, source="by hand")
    left = one.folder(row, tmp_path)
    left.mkdir(parents=True)
    (left / "run.json").write_text("{}")
    found = json.loads(json.dumps(one.measure(row, tmp_path)))
    assert len(found["scores"]) == 2
    assert found["scores"][0] == found["scores"][1]
    assert found["cpu"] > 0
    assert runner.done(row, {row.name: found})


def test_the_command(tmp_path, capsys, monkeypatch):
    done = [record(row) for row in ROWS["quick"] if row.env == "DynaMaze"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(x) + "\n" for x in done))
    bench = ["bench", "learning", "--out", str(tmp_path)]
    assert main([*bench, "--only", "DynaMaze"]) == 0
    said = f"{len(done)} rows: {len(done)} short"
    assert capsys.readouterr().out.splitlines() == [said, str(tmp_path / "learning.md")]
    assert main([*bench, "--only", "DynaMaz"]) == 2
    assert "no row 'DynaMaz' in this suite" in capsys.readouterr().err
    assert main([*bench, "--workers", "0"]) == 2
    monkeypatch.setattr(runner, "started", lambda *_: process("1 / 0"))
    assert main([*bench, "--only", "trpo"]) == 1
    assert "1 rows could not be run" in capsys.readouterr().err
    assert "failed: ZeroDivisionError: division by zero" in (tmp_path / "learning.md").read_text()


@pytest.mark.slow
def test_rows_are_met_by_processes_side_by_side(tmp_path, capsys):
    words = ["bench", "learning", "--only", "value-iteration", "policy-iteration", "--workers", "2"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert "2 rows: 2 met" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == ["2 rows: 2 met", str(tmp_path / "learning.md")]
