"""Twenty minutes of training: memory does not grow, and nothing compiles after the first minute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MINUTES = float(os.environ.get("THORNDIKE_SOAK_MINUTES", "20"))
SCRIPT = """
import sys, time
import jax, jax.monitoring
import thorndike as td
start, compiled = time.monotonic(), []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiled.append(time.monotonic() - start) if "backend_compile" in name else None)
last = [0.0]
def look(run, row):
    now = time.monotonic() - start
    if now - last[0] >= 1:
        last[0] = now
        held = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
        print("sample", now, int(held.split()[1]), sum(t > 60 for t in compiled), flush=True)
    if now > float(sys.argv[2]) * 60:
        sys.exit(0)
algorithm = eval(sys.argv[1])
how = {"out": "soak", "progress": False, "log_every": int(sys.argv[4]), "on_row": look}
td.train(algorithm, sys.argv[3], 10**9, **how)
"""
CASES = {  # algorithm, environment, steps between two looks
    "compiled": ("'ppo'", "CartPole-v1", 100_000),
    "on the host": (
        "td.SAC(replay=td.Uniform(capacity=2_000, batch_size=64, warmup=1_000))",
        "gymnasium/Pendulum-v1",
        500,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_soak(case, tmp_path):
    """Resident memory grows by less than 1 MB in 10 minutes after the first 2, by a line through the samples.

    That is what the process itself holds: the kernel takes pages of mapped files away and brings them back as it likes.
    The memory of transitions is small where there is one: its pages count when they are first written.
    """
    algorithm, env, every = CASES[case]
    command = [sys.executable, "-c", SCRIPT, algorithm, str(MINUTES), env, str(every)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(tmp_path), check=False)
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("sample")]
    seconds, held, late = np.array(rows, float).T
    assert seconds[-1] > MINUTES * 60 - 5, done.stderr
    assert late[-1] == 0, "compiled after the first minute"
    settled = seconds > 120
    slope = np.polyfit(seconds[settled], held[settled], 1)[0] * 600 / 2**10  # from kB
    print(case, f"{slope:.2f} MB per 10 minutes, {held[-1] / 2**10:.0f} MB at the end")
    assert slope < 1, [f"{t:.0f} s: {kb / 2**10:.1f} MB" for t, kb in zip(seconds, held)]
