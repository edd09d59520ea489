"""The list of runs, and the defaults and presets that its settings are compared with."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
from fake_runs import make, settings

import thorndike as td
from thorndike.cli import main
from thorndike.presets import based_on
from thorndike.runs.results.listing import list_runs, table
from thorndike.settings import changes, differing, flat, spell

RETURN = "rollout/ep_rew_mean"

# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_told_by_what_they_are_based_on():
    assert based_on(td.PPO(), "") == ("defaults", {})
    assert based_on(td.preset("dqn", "CartPole-v1"), "CartPole-v1") == ("preset", {})
    assert based_on(td.PPO(clip=0.1), "CartPole-v1") == ("defaults", {"clip": 0.1})
    assert based_on(td.preset("dqn", "CartPole-v1", tau=0.1), "CartPole-v1") == ("preset", {"tau": 0.1})
    assert based_on(td.DQN(exploration=td.Softmax()), "") == ("defaults", {"exploration": "Softmax"})

    @td.config
    class PPO(td.PPO):
        """Of one's own."""

    assert based_on(PPO(clip=0.1), "CartPole-v1") == ("", {})


def test_what_only_some_settings_have_does_not_count_as_differing():
    one, other = flat(settings("DQN")), flat(settings("DQN", tau=0.5, exploration=settings("Softmax")))
    assert differing([one, other]) == ["tau", "exploration"]
    assert changes(other | {"new": 1}, one) == {"tau": 0.5, "exploration": "Softmax"}
    assert spell({"a": 9.999999747378752e-05, "b": [64, 64], "c": "x" * 99}) == f"a=0.0001, b=(64, 64), c={'x' * 29}..."


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_record_says_what_a_run_is_and_how_far_it_is(tmp_path):
    make(tmp_path / "late", made="2026-03-01T00:00:00")
    returns = {RETURN: np.array([[np.nan, 1.0], [5.0, 2.5]])}
    made = settings("DQN", "CartPole-v1", tau=0.1)
    make(tmp_path / "in" / "here", made, columns=returns, seed=3, seeds=2, made="2026-02-01T00:00:00")
    first, second = td.list_runs(tmp_path)
    assert second["path"] == str(tmp_path / "late")
    assert first["made"] < second["made"]
    del first["made"]
    assert first == {
        "path": str(tmp_path / "in" / "here"),
        "algorithm": "DQN",
        "environment": "CartPole-v1",
        "base": "preset",
        "changed": {"tau": 0.1},
        "sweep": {},
        "seed": 3,
        "seeds": 2,
        "steps": 2000,
        "planned": 2000,
        "return": [5.0, 2.5],
        "best": None,
        "signs": [],
        "state": "finished",
        "error": None,
    }
    assert [record["path"] for record in list_runs(tmp_path / "late")] == [str(tmp_path / "late")]
    assert all(record.keys() == second.keys() for record in td.list_runs(tmp_path))


def test_a_run_that_goes_on_is_as_far_as_its_newest_row(tmp_path, monkeypatch):
    from thorndike.runs.storage import journal

    path = make(tmp_path / "run", columns={RETURN: [1.0, 2.0, 3.0, 4.0]}, state="running")
    status = {"state": "running", "steps": 1000, "seconds": 1.0, "return_mean": [1.0]}
    (path / "status.json").write_text(json.dumps(status))
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"steps": 5000, "rollout/ep')  # just being written
    (record,) = list_runs(tmp_path)
    assert (record["state"], record["steps"], record["return"]) == ("interrupted", 1000, [1.0])  # nobody has its lock
    monkeypatch.setattr(journal, "trained", lambda path: True)
    (record,) = list_runs(tmp_path)
    assert (record["state"], record["steps"], record["return"]) == ("running", 4000, [4.0])


def test_broken_folders_are_listed_as_such(tmp_path):
    make(tmp_path / "good", made="2026-03-01T00:00:00")
    make(tmp_path / "damaged")
    (tmp_path / "damaged" / "run.json").write_text("{")
    make(tmp_path / "lost")
    (tmp_path / "lost" / "run.json").unlink()
    make(tmp_path / "unknown")
    (tmp_path / "unknown" / "status.json").write_text("[]")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("")
    found = {record["path"].rpartition("/")[2]: record for record in list_runs(tmp_path)}
    assert {name: record["state"] for name, record in found.items()} == {
        "damaged": "broken", "lost": "broken", "unknown": "broken", "good": "finished",
    }  # fmt: skip
    assert "is not readable JSON" in found["damaged"]["error"]
    assert "no run.json in it" in found["lost"]["error"]
    text = table(list_runs(tmp_path), 100)
    assert sum("broken: " in line for line in text.splitlines()) == 3
    assert "finished" in text.splitlines()[-2]
    with pytest.raises(td.ConfigError, match="there is no folder"):
        list_runs(tmp_path / "nowhere")


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_is_compact(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs" / "a", made="2026-01-01T00:00:00")
    make(tmp_path / "runs" / "b", settings(clip=0.1, discount=0.9, epochs=7, trace=0.5), made="2026-01-02T00:00:00")
    sweep = {RETURN: np.array([[1.0, 300.0]])}
    make(tmp_path / "runs" / "c", columns=sweep, sweep={"clip": [0.1, 0.2]}, made="2026-01-03T00:00:00")
    waiting = {RETURN: np.array([np.nan])}
    make(tmp_path / "runs" / "d", "SARSA", "FourRooms", waiting, seed=4, state="new", made="2026-01-04T00:00:00")
    for width in (200, 80, 60):
        lines = table(list_runs("runs"), width).splitlines()
        assert max(map(len, lines)) <= width
        begins = ["run", "runs/a", "runs/b", "runs/c", "runs/d"]
        assert [line.split()[0] for line in lines if not line.startswith(" ")] == begins
        if width < 200:
            assert lines[4].startswith("    PPO on CartPole-v1: discount=0.9, trace=0.5, clip=0.1")
            assert lines[8] == "    SARSA on FourRooms: defaults, seed 4"
    wide = table(list_runs("runs"), 200).splitlines()
    assert "discount=0.9, trace=0.5, clip=0.1, epochs=7" in wide[2]
    assert "clip=(0.1, 0.2)" in wide[3]
    assert "1.00 to 300.0" in wide[3]
    assert "defaults, seed 4" in wide[4]
    assert "  -  new" in wide[4]


def test_scores_of_evaluations_and_signs_of_trouble(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs" / "a", made="2026-01-01T00:00:00")
    make(tmp_path / "runs" / "b", made="2026-01-02T00:00:00")
    assert "best" not in table(list_runs("runs"), 200)
    status = json.loads((tmp_path / "runs" / "b" / "status.json").read_text())
    status["best"] = {"mean_reward": 412.25, "steps": 1000}
    status["warnings"] = [{"sign": "the return has fallen", "step": 2000, "saw": "it fell"}]
    (tmp_path / "runs" / "b" / "status.json").write_text(json.dumps(status))
    first, second = list_runs("runs")
    assert (first["best"], first["signs"]) == (None, [])
    assert (second["best"], second["signs"]) == (412.25, ["the return has fallen"])
    assert main(["runs"]) == 0
    text = capsys.readouterr().out
    assert "412.2" in text
    assert "finished, 1 sign " in text
    assert text.endswith("\n\nsigns of trouble: thorndike doctor runs/b\n")


def test_the_command_lists_them(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 2
    assert "there is no folder runs" in capsys.readouterr().err
    make(tmp_path / "runs" / "a")
    assert main(["runs"]) == 0
    assert "runs/a" in capsys.readouterr().out
    assert main(["runs", "runs/a", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["path"], record["state"]) == ("runs/a", "finished")
    (tmp_path / "empty").mkdir()
    assert main(["runs", "empty"]) == 0
    assert "there is no run in empty" in capsys.readouterr().out


def test_two_hundred_runs_take_about_a_second_and_no_jax(tmp_path):
    for i in range(200):
        make(tmp_path / f"{i}", settings(clip=0.01 * i), seeds=4)
    code = f"import sys, thorndike as td; n = len(td.list_runs({str(tmp_path)!r})); "
    code += "print(n, [name for name in ('jax', 'gymnasium', 'matplotlib') if name in sys.modules])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "200 []"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
