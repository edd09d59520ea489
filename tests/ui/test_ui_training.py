"""`thorndike ui` beside a training that knows nothing of it: curves grow, the run is stopped, resumed and killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from runs import fake_runs
from runs import small_runs as small
from thorndike.cli import main
from thorndike.runs.storage.journal import Journal
from thorndike.ui.processes import Processes, trainer

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are seen in /proc alone")


@contextlib.contextmanager
def command(*words, **options):
    process = subprocess.Popen([sys.executable, "-m", "thorndike", *map(str, words)], text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def told(lines):
    """Events of a stream, as (kind, data)."""
    kind = ""
    for text in lines:
        if text.startswith("event: "):
            kind = text[7:]
        elif text.startswith("data: "):
            yield kind, json.loads(text[6:])


def until(found, wanted, seconds=60.0):
    """The events up to the first that is wanted."""
    seen, end = [], time.monotonic() + seconds
    for one in found:
        seen.append(one)
        if wanted(*one):
            return seen
        assert time.monotonic() < end, seen[-5:]
    raise AssertionError(seen[-5:])


def rows(seen):
    return [row for kind, data in seen if kind == "rows" for row in data["rows"]]


def is_state(state):
    return lambda kind, data: kind == "state" and data["state"] == state


def test_beside_a_training(tmp_path):
    run = tmp_path / "runs" / "small"
    run.parent.mkdir()
    with contextlib.ExitStack() as stack:
        ui = stack.enter_context(command("ui", run.parent, "--port", 0, stdout=subprocess.PIPE))
        train = ["train", "ppo", "CartPole-v1", "--out", run, "--steps", 40_000_000, *small.PPO_FLAGS]
        training = stack.enter_context(command(*train, stderr=subprocess.DEVNULL))
        url = re.search(r"http://\S+", ui.stdout.readline())[0]
        page = stack.enter_context(httpx.Client(base_url=url.partition("/?")[0], timeout=60, follow_redirects=True))
        assert page.get(url).status_code == 200
        end = time.monotonic() + 60
        while not (found := page.get("/show?run=small")).is_success:
            assert time.monotonic() < end
            time.sleep(0.1)
        origin = str(page.base_url).rstrip("/")
        headers = {"origin": origin, "x-thorndike": re.search(r'data-word="(\w+)"', found.text)[1]}
        lines = stack.enter_context(page.stream("GET", "/events?run=small")).iter_lines()
        stream = told(lines)

        grown = rows(until(stream, lambda kind, data: kind == "rows")) + rows(
            until(stream, lambda kind, _: kind == "rows")
        )
        steps = [row["steps"] for row in grown]
        assert steps == sorted(set(steps))
        assert any("rollout/ep_rew_mean" in row["tags"] for row in grown)

        assert trainer(run) == training.pid
        assert "told to stop" in page.post("/stop?run=small", headers=headers).json()["said"]
        assert "already" in page.post("/stop?run=small", headers=headers).json()["said"] or training.poll() is not None
        rest = until(stream, is_state("interrupted"))
        assert rest[-1][1]["can"] == "resume"
        training.wait(30)
        status = json.loads((run / "status.json").read_text())
        assert status["state"] == "interrupted"  # it has saved, as after Ctrl-C
        assert status["steps"] >= steps[-1]
        assert trainer(run) is None

        assert page.post("/resume?run=small", headers=headers).is_success
        again = until(stream, is_state("running"))
        again += until(stream, lambda kind, data: kind == "rows" and data["rows"][-1]["steps"] > status["steps"])
        assert "being trained already" in page.post("/resume?run=small", headers=headers).json()["said"]
        os.kill(trainer(run), signal.SIGKILL)
        until(stream, is_state("interrupted"))
        assert json.loads((run / "status.json").read_text())["state"] == "running"  # a killed run says no more
        assert Journal(run).status["state"] == "interrupted"

        ui.send_signal(signal.SIGINT)
        assert ui.wait(20) in (0, 130)


def test_a_number_in_a_file_is_not_believed(tmp_path):
    """Whoever has the run's lock open for reading, or another file, is not stopped."""
    (tmp_path / "lock").write_text(str(os.getppid()))
    code = "import sys; file = open(sys.argv[1]); print(1, flush=True); input()"
    words = [sys.executable, "-c", code, tmp_path / "lock"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        reader.stdout.readline()
        assert trainer(tmp_path) is None
        with pytest.raises(ValueError, match="nothing to stop"):
            Processes().stop(tmp_path)
        reader.communicate(b"\n")


def test_a_resumption_that_fails_says_why(tmp_path):
    run = fake_runs.make(tmp_path / "run", env="NoSuchEnvironment-v0", state="interrupted")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"steps": 90_000}))
    processes = Processes()
    processes.resume(run)
    assert processes.state(run, "interrupted") == "starting"
    processes.begun[run].wait(60)
    assert "NoSuchEnvironment" in processes.failed(run)
    assert processes.state(run, "interrupted") == "interrupted"
    assert (run / "resume.log").stat().st_mode & 0o077 == 0


def test_mistakes_are_said(tmp_path, capsys):
    assert main(["ui", str(tmp_path / "nothing")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["ui", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 2
    assert "--port 0 takes any" in capsys.readouterr().err
    assert main(["ui", str(tmp_path), "--port", "70000"]) == 2
