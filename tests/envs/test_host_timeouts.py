"""What a time-out is counted from, and what ends with an environment that hangs."""

import os
import time
from pathlib import Path

import host_cases as cases
import numpy as np
import pytest

from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.host import backends as host_backends
from thorndike.envs.host import batch as host
from thorndike.errors import EnvError

BACKENDS = ["serial", "process"]
TIMEOUT = 0.8
SLOW = 0.5  # seconds of each step and reset of `cases.Slower`: two of them last longer than the time-out


def slow(workers: str, monkeypatch, **fault):
    """Two slow environments of one worker."""
    monkeypatch.setattr(host, "cores", lambda: 1)
    return GymnasiumEnvironment(cases.Slower, seconds=SLOW, **fault).batch(2, 0, workers, TIMEOUT)


@pytest.mark.parametrize("workers", BACKENDS)
def test_each_environment_has_the_time_for_itself(workers, monkeypatch):
    with slow(workers, monkeypatch) as batch:
        batch.reset()
        now = batch.step(np.zeros(batch.num_envs, np.int32))
    np.testing.assert_array_equal(now.reward, 1.0)


@pytest.mark.parametrize("workers", BACKENDS)
def test_one_that_hangs_among_slow_ones_is_named_in_time(workers, monkeypatch):
    with slow(workers, monkeypatch, unlucky=1) as batch:
        batch.reset()
        start = time.monotonic()
        with pytest.raises(EnvError, match=r"environment 1 failed in step 1 .*\n*.*did not answer in time"):
            batch.step(np.zeros(batch.num_envs, np.int32))
    assert SLOW + TIMEOUT < time.monotonic() - start < SLOW + TIMEOUT + 5


def test_one_that_hangs_is_not_hidden_by_another_worker_that_is_slow(monkeypatch):
    """Six environments for each worker; the second worker's first hangs while the first worker steps all of its own."""
    monkeypatch.setattr(host, "cores", lambda: 2)
    monkeypatch.setattr(host_backends, "GRACE", 0.1)
    env = GymnasiumEnvironment(cases.Slower, seconds=SLOW, unlucky=6)
    with env.batch(12, 0, "process", TIMEOUT) as batch:
        batch.reset()
        start = time.monotonic()
        with pytest.raises(EnvError, match="environment 6 failed in step 1"):
            batch.step(np.zeros(batch.num_envs, np.int32))
    assert TIMEOUT < time.monotonic() - start < 6 * SLOW


def test_a_worker_is_looked_at_no_longer_than_patience_lasts(monkeypatch):
    """So that of many slow ones each has its turn before the time-out of one is over."""
    with slow("process", monkeypatch) as batch:
        batch.reset()
        worker = batch._workers[0]
        worker.send("step", np.zeros(2, np.int32))
        start = time.monotonic()
        assert worker.wait(TIMEOUT, 0.02) is None
        assert time.monotonic() - start < SLOW


def test_an_environment_that_goes_on_whatever_is_raised_is_stopped_too():
    with GymnasiumEnvironment(cases.Stubborn).batch(1, 0, "serial", 0.5) as batch:
        batch.reset()
        start = time.monotonic()
        with pytest.raises(EnvError, match="environment 0 failed in step 1"):
            batch.step(np.zeros(1, np.int32))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("workers", BACKENDS)
def test_an_error_that_cannot_be_printed_is_named(workers):
    with GymnasiumEnvironment(cases.Speechless).batch(1, 0, workers) as batch:
        batch.reset()
        with pytest.raises(EnvError, match=r"(?s)environment 0 failed in step 1 .*Wordless .*Traceback"):
            batch.step(np.zeros(1, np.int32))
        with pytest.raises(EnvError, match="closed"):
            batch.step(np.zeros(1, np.int32))


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_what_an_environment_started_ends_with_it(end):
    """Its worker leads a group of processes of its own, so that Ctrl-C in a terminal is for the driver alone."""
    hangs = end == "killed"
    with GymnasiumEnvironment(cases.Parent, hangs=hangs).batch(1, 0, "process", 1.0, "restart") as batch:
        children = [int(batch.reset().obs[0, 0])]
        assert os.getpgid(children[0]) == os.getpgid(batch._workers[0]._popen.pid) != os.getpgrp()
        if hangs:
            children.append(int(batch.step(np.zeros(1, np.int32)).obs[0, 0]))
            assert children[0] != children[1]
    until = time.monotonic() + 5
    while any(Path(f"/proc/{child}").exists() and "Z" not in state(child) for child in children):
        assert time.monotonic() < until
        time.sleep(0.05)


def state(pid: int) -> str:
    """Of a process, as /proc has it: Z where it only waits to be asked how it ended."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
