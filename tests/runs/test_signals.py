"""Signals to the command line: the process leaves soon, says how, and what it saved can be resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_runs as small

import thorndike as td
from thorndike.cli import main
from thorndike.runs.storage import checkpoint

COMMAND = [str(Path(sys.executable).with_name("thorndike")), "train", "ppo", "CartPole-v1", *small.PPO_FLAGS]
ENDLESS = 16 * 200 * 1000  # a row every 1000 iterations
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def seconds(n: float) -> float:
    """A time limit, longer where others use the machine too."""
    return n * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def start(command: list[str], **env: str) -> subprocess.Popen:
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    )  # fmt: skip


def wait_until(happened, process: subprocess.Popen) -> None:
    until = time.monotonic() + seconds(60)
    while not happened():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.01)


def leave(process: subprocess.Popen, number: int, within: float) -> str:
    """Send a signal; the text on standard error, once the process has left."""
    sent = time.monotonic()
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert time.monotonic() - sent < within
    assert process.returncode == CODES[number]
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("number", CODES)
def test_while_it_compiles(number, tmp_path):
    out = tmp_path / "run"
    process = start([*COMMAND, "--steps", str(ENDLESS), "--out", str(out)], JAX_ENABLE_COMPILATION_CACHE="false")
    wait_until((out / "metrics.jsonl").exists, process)
    time.sleep(0.3)
    err = leave(process, number, seconds(5))
    assert "stopped before the first step; go on with: thorndike resume" in err
    assert json.loads((out / "status.json").read_text())["state"] == "interrupted"
    assert checkpoint.load_newest(out / "checkpoints") is None  # nothing was lost: there was nothing yet
    assert main(["resume", str(out), "--steps", str(small.STEPS)]) == 0
    assert td.open_run(out).status["state"] == "finished"
    assert td.open_run(out).status["steps"] == small.STEPS


@pytest.mark.parametrize("number", CODES)
def test_while_it_trains(number, tmp_path):
    out = tmp_path / "run"
    process = start([*COMMAND, "--steps", str(ENDLESS), "--out", str(out)])
    wait_until(lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size, process)
    err = leave(process, number, seconds(5))
    run = td.open_run(out)
    steps = run.status["steps"]
    assert run.status["state"] == "interrupted"
    assert 0 < steps < ENDLESS
    assert checkpoint.steps(out / "checkpoints")[-1] == steps
    assert f"stopped and saved at {steps} steps; go on with: thorndike resume {out}" in err
    assert small.arrays(run)[".steps"] == steps
    assert main(["resume", str(out), "--steps", str(steps + 160)]) == 0
    assert td.open_run(out).status["state"] == "finished"
    assert td.open_run(out).status["steps"] == steps + 160


SLOW = """
import sys
from thorndike.cli import main
from thorndike.drivers.scan import ScanDriver

advance = ScanDriver.advance

def told(self, *args):
    print("advancing", flush=True)
    return advance(self, *args)

ScanDriver.advance = told
sys.exit(main(sys.argv[1:]))
"""


def test_a_second_interrupt_leaves_at_once(tmp_path):
    """One iteration with a million epochs takes minutes: the first Ctrl-C waits for it, the second does not."""
    out = tmp_path / "run"
    command = [sys.executable, "-c", SLOW, *COMMAND[1:], "--epochs", "1000000", "--steps", "160", "--out", str(out)]
    process = start(command)
    assert process.stdout.readline() == "advancing\n", process.stderr.read()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    err = leave(process, signal.SIGINT, seconds(1))
    assert "interrupted twice: leaving without saving" in err
