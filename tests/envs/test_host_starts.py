"""Host environments that fail, exit, hang or dawdle when they are made, first reset or timed."""

import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import gymnasium as gym
import host_cases as cases
import numpy as np
import pytest
from host_cases import FAULTS, AtOnce, Counter, Dawdling, Faulty

import thorndike as td
from thorndike.cli import main
from thorndike.envs.adapters import gymnasium as adapter
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.host import guard
from thorndike.errors import EnvError

BACKENDS = ["serial", "process"]
ZERO = np.zeros(2, np.int32)


@pytest.mark.parametrize("kind", ["raises", "exits", "hangs"])
@pytest.mark.parametrize(("phase", "says"), [("construction", "could not be made"), ("reset", "in its first reset")])
def test_what_fails_at_once_is_named(kind, phase, says, monkeypatch):
    """Where the spaces are learned, before there is a batch."""
    monkeypatch.setattr(guard, "START", 0.5)
    start = time.monotonic()
    with pytest.raises(EnvError, match="AtOnce") as caught, guard.starts_within(0.1):
        GymnasiumEnvironment(AtOnce, kind=kind, phase=phase)
    assert time.monotonic() - start < 5
    reason = "no answer in 0.5 s" if kind == "hangs" else FAULTS[kind][0]
    assert says in str(caught.value)
    assert reason in str(caught.value)
    assert f"in {'__init__' if phase == 'construction' else 'reset'}\n" in str(caught.value)  # the traceback


def test_a_run_does_not_wait_for_what_never_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "START", 0.5)
    start = time.monotonic()
    with pytest.raises(EnvError, match=r"could not be made: no answer in 0\.6 s"):
        td.train(td.PPO(), partial(AtOnce, kind="hangs", phase="construction"), 2048, out=tmp_path, env_timeout=0.6)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("kind", ["raises", "exits"])
def test_a_first_step_that_fails_while_it_is_timed_is_left_to_the_batch(kind, monkeypatch):
    monkeypatch.setattr(adapter, "cores", lambda: 2)
    with GymnasiumEnvironment(AtOnce, kind=kind, phase="step").batch(2) as batch:
        assert batch.workers == "process"
        batch.reset()
        with pytest.raises(EnvError, match="environment 0 failed in step 1 ") as caught:
            batch.step(ZERO)
    assert FAULTS[kind][0] in str(caught.value)


def test_a_first_step_that_hangs_while_it_is_timed(monkeypatch):
    monkeypatch.setattr(adapter, "cores", lambda: 2)
    env, start = GymnasiumEnvironment(AtOnce, kind="hangs", phase="step"), time.monotonic()
    with pytest.raises(
        EnvError, match=r"(?s)environment 0 \(AtOnce\) failed in its first steps: .* in time.*in step\n"
    ):
        env.batch(2, timeout=0.5)
    assert time.monotonic() - start < 5.5
    with env.batch(2, timeout=0.5, on_error="restart") as batch:
        assert batch.workers == "process"  # where it can be killed


@pytest.mark.parametrize("workers", BACKENDS)
def test_no_time_out_at_all(workers):
    with guard.starts_within(np.inf):
        env = GymnasiumEnvironment(Counter)
    with env.batch(2, 0, workers, np.inf) as batch:
        assert [float(now.reward[0]) for now in cases.play(batch, ZERO, ZERO)] == [1, 2]


def test_a_slow_reset_is_no_slow_step(monkeypatch):
    monkeypatch.setattr(adapter, "cores", lambda: 2)
    with GymnasiumEnvironment(Dawdling).batch(2) as batch:
        assert batch.workers == "serial"


def test_outside_of_the_main_thread_the_time_out_holds_too():
    def meet() -> tuple[str, str]:
        with GymnasiumEnvironment(Faulty, kind="hangs", at=1).batch(1, 0, "auto", 0.5) as batch:
            batch.reset()
            with pytest.raises(EnvError) as caught:
                batch.step(ZERO[:1])
            return batch.workers, str(caught.value)

    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        workers, text = pool.submit(meet).result(timeout=30)
    assert time.monotonic() - start < 10
    assert (workers, "it did not answer in time; its worker process was killed" in text) == ("process", True)


def test_a_run_on_what_exits_says_so(tmp_path, capfd):
    gym.register("Exits-v0", entry_point="host_cases:AtOnce", kwargs={"kind": "exits", "phase": "step"})
    for _ in range(2):  # the second finds the directory free
        assert main(["train", "ppo", "gymnasium/Exits-v0", "--out", str(tmp_path / "run"), "--steps", "2048"]) == 1
        assert "environment 0 failed in step 1" in capfd.readouterr().err


def test_a_crash_of_the_whole_process_says_where():
    script = f"""
import sys, gymnasium
from thorndike.cli import main
sys.path.append({str(Path(__file__).parent)!r})
gymnasium.register("Crashes-v0", entry_point="host_cases:AtOnce", kwargs={{"kind": "crashes", "phase": "construction"}})
sys.argv = ["thorndike", "train", "ppo", "gymnasium/Crashes-v0"]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert re.search(r"host_cases.py\", line \d+ in fail\n", done.stderr), done.stderr
