"""Kill -9 at random moments, twenty in the slow tests: each run resumed to its end is bit for bit the uninterrupted."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from thorndike.runs.storage import checkpoint

CASE = Path(__file__).with_name("kill_case.py")
KILLS = [("ppo", 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in [("ppo", 4), ("dqn", 8), ("sac", 8)])]


def start(name, directory):
    return subprocess.Popen([sys.executable, CASE, name, directory], stderr=subprocess.PIPE)


def finish(name, directory):
    process = start(name, directory)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()[-2000:]


def newest(directory):
    steps = checkpoint.steps(directory / "checkpoints")
    return steps[-1] if steps else 0


@pytest.mark.parametrize(("name", "times"), KILLS)
def test_killed_runs_resume_bit_for_bit(name, times, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(name, whole)
    end = json.loads((whole / "run.json").read_text())["steps"]

    rng, kills, at = random.Random(name), 0, []
    while kills < times:
        before, process = newest(killed), start(name, killed)
        # The first kill comes at any time since the start, compilation included; the others a moment after
        # training has gone on by at least one checkpoint, so that the run gets somewhere.
        if kills > 0:
            while newest(killed) <= before and process.poll() is None:
                time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2) if kills > 0 else rng.uniform(1, 4))
        if process.poll() is not None:
            assert process.returncode == 0, process.stderr.read().decode()[-2000:]
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        kills += 1
        at.append(newest(killed))
    finish(name, killed)

    assert kills == times, f"the run ended after {kills} kills, at {at}"
    assert 0 < max(at) < end
    one, two = (checkpoint.load(d / "checkpoints" / f"{end:012d}")[0] for d in (whole, killed))
    assert set(one) == set(two)
    for path in one:
        np.testing.assert_array_equal(one[path], two[path], err_msg=path)
    rows = [[json.loads(line) for line in (d / "metrics.jsonl").read_text().splitlines()] for d in (whole, killed)]
    assert [row["steps"] for row in rows[0]] == [row["steps"] for row in rows[1]]
    for a, b in zip(*rows):
        assert {k: v for k, v in a.items() if "time/" not in k} == {k: v for k, v in b.items() if "time/" not in k}
