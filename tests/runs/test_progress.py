"""Progress on a terminal, in a notebook, in scripts and logs: each driven as the training loop drives it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

import thorndike as td
from thorndike.runs.training import progress
from thorndike.runs.training.progress import Line, Progress, fitted
from thorndike.text import duration, score

RUN = SimpleNamespace(
    algorithm=td.PPO(),
    info={"environment": {"id": "CartPole-v1"}, "steps": 100_000},
    runs=2,
    journal=SimpleNamespace(shell_path="runs/x"),
)
RETURNS = np.array([np.nan, 20.0])


@pytest.fixture
def clock(monkeypatch):
    """Seconds that only tests move."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def logged(clock, capsys, seconds: float, wanted: bool | None = None, until: int = 100_000) -> list[str]:
    """What a run of so many seconds says, 1,000 steps at a time."""
    with Progress(RUN, wanted) as shown:
        for steps in range(1000, until + 1, 1000):
            clock[0] += seconds / 100
            shown.show(steps, 2 * 100_000 / seconds, RETURNS)
    return capsys.readouterr().err.splitlines()


# --- scripts and logs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [None, True])
def test_a_quick_run_says_a_line_for_each_tenth(wanted, clock, capsys):
    first, *lines = logged(clock, capsys, 10.0, wanted)
    assert first == "training PPO on CartPole-v1 for 100,000 steps in runs/x"
    assert [line.split(" steps")[0].strip() for line in lines] == [f"{n}0,000" for n in range(1, 10)] + ["100,000"]
    assert lines[3] == " 40,000 steps  40%  left 6 s  return 20.0  20,000 steps/s"
    assert lines[-1] == "100,000 steps 100%  return 20.0  20,000 steps/s"


def test_a_slow_run_says_a_line_each_half_minute(clock, capsys):
    _, *lines = logged(clock, capsys, 86_400.0)  # a day, in chunks of a quarter of an hour
    assert len(lines) == 100
    assert lines[0].startswith("  1,000 steps   1%  left 23 h 46 min  return 20.0")
    _, *lines = logged(clock, capsys, 600.0)  # ten minutes, in chunks of six seconds: at 5%, 10%, ...
    assert len(lines) == 20


def test_a_run_that_is_stopped_says_where_it_was(clock, capsys):
    *_, before, last = logged(clock, capsys, 10.0, until=14_000)
    assert before.startswith(" 10,000 steps  10%")
    assert last.startswith(" 14,000 steps  14%")


def test_a_run_that_goes_on_counts_the_time_from_there(clock, capsys):
    with Progress(RUN, None) as shown:
        for steps in range(90_000, 100_001, 1000):
            clock[0] += 1
            shown.show(steps, np.nan, np.array([np.nan, np.nan]))
    _, *lines = capsys.readouterr().err.splitlines()
    assert lines == [" 90,000 steps  90%  no episode has ended", "100,000 steps 100%  no episode has ended"]


def test_silence_leaves_out_all_but_messages(clock, capsys):
    assert logged(clock, capsys, 10.0, wanted=False) == []
    with Progress(RUN, False) as shown:
        shown.say("compiling ...", transient=True)
        shown.say("warning: something")
    assert capsys.readouterr() == ("", "warning: something\n")


def test_several_returns_have_a_range(clock, capsys):
    with Progress(RUN, None) as shown:
        shown.show(100_000, 5.0, np.array([1.5, 20.25]))
    assert "return 10.9 (1.50 to 20.2)" in capsys.readouterr().err


# --- a terminal -------------------------------------------------------------------------------------------------------

DRIVE = """
import sys
sys.path[:0] = {path!r}
from test_progress import RUN
from thorndike.runs.training.progress import Progress
import numpy as np, time
shown = Progress(RUN, None)
shown.say("warning: said before anything is drawn")
with shown:
    shown.say("compiling ...", transient=True)
    for steps in range(10_000, 100_001, 10_000):
        shown.show(steps, 20_000.0, np.array([487.25, 12.5]))
        shown.view.bar.refresh()
    shown.say("[bold]warning[/bold]: said in the midst")
"""


def on_terminal(columns: int) -> list[str]:
    """The lines that a terminal of that width is told, without escape sequences."""
    ours, theirs = pty.openpty()
    environ = {name: x for name, x in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environ |= {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    code = DRIVE.format(path=sys.path)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    told = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says so where the other end is closed
            break
        if not data:
            break
        told += data
    os.close(ours)
    assert process.wait() == 0, told.decode()
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told.decode()))
    return [line.rstrip() for line in lines if line.strip()]


def test_the_bar_stays_whole_on_a_narrow_terminal():
    for columns in (60, 110):
        lines = on_terminal(columns)
        bars = [line for line in lines if line.startswith("PPO")]
        assert max(map(len, bars)) <= columns
        assert lines[0] == "warning: said before anything is drawn"
        assert "[bold]warning[/bold]: said in the midst" in lines
        assert any("10,000/100,000" in line for line in bars)
        assert "100,000/100,000" in bars[-1]
        assert all(line.count("━") + line.count("╸") + line.count("╺") >= 10 for line in bars)
    assert "PPO on CartPole-v1" in bars[-1]
    assert "return 249.9 (12.5 to 487.2)" in bars[-1]
    assert "20,000 steps/s" in bars[-1]


def test_what_does_not_fit_is_left_out_from_the_end():
    name, facts = "PPO on CartPole-v1", ["1/2", "left 3 s", "return 5.0"]
    assert fitted(name, facts, 100) == (name, "1/2  left 3 s  return 5.0")
    for width in range(3, 60):
        title, shown = fitted(name, facts, width)
        assert len(title) + len(shown) <= width
        assert shown.startswith("1/2")
    assert fitted(name, facts, 30) == ("PPO", "1/2  left 3 s  return 5.0")
    assert fitted(name, facts, 20) == ("PPO", "1/2  left 3 s")


# --- a notebook -------------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook would show: every state of its line."""
    shown: list = []
    handle = SimpleNamespace(update=shown.append)
    shell = SimpleNamespace(kernel=object())
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    ipython.display = types.ModuleType("IPython.display")  # type: ignore[attr-defined]
    ipython.display.display = lambda line, display_id: shown.append(line) or handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return SimpleNamespace(shown=shown, shell=shell)


def test_a_notebook_has_one_line_that_changes(notebook, clock, capsys):
    assert logged(clock, capsys, 10.0) == []
    texts = [repr(line) for line in notebook.shown]
    assert texts[0] == "PPO on CartPole-v1: compiling"
    assert 10 <= len(texts) <= 25  # of a hundred
    assert texts[-1] == "PPO on CartPole-v1: 100,000 of 100,000 steps, return 20.0, 20,000 steps/s"
    assert 'value="1.0000"' in notebook.shown[-1]._repr_html_()
    assert "&lt;lambda&gt;" in Line("<lambda>", 0.5)._repr_html_()


def test_a_terminal_of_ipython_is_no_notebook(notebook, clock, capsys):
    del notebook.shell.kernel
    assert logged(clock, capsys, 10.0)[0].startswith("training PPO on CartPole-v1")
    assert notebook.shown == []


# --- texts ------------------------------------------------------------------------------------------------------------


def test_durations_and_returns_are_short():
    seconds = {
        -1: "0 s",
        3.4: "3 s",
        99: "99 s",
        100: "2 min",
        5990: "1 h 40 min",
        86_340: "23 h 59 min",
        864_000: "10 d",
    }
    assert {x: duration(x) for x in seconds} == seconds
    assert [score(x) for x in (487.24, -152.0, 9.876, 0.0, -0.05)] == ["487.2", "-152.0", "9.88", "0.00", "-0.05"]
