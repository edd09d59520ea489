"""An eight-seed program starts, every time: fresh processes, two at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

SCRIPT = """
import sys, thorndike as td
ppo = td.PPO(rollout_length=8, minibatch_size=64)
run = td.train(ppo, "CartPole-v1", 64, seeds=8, out=sys.argv[1], progress=False)
assert run.status["state"] == "finished"
"""


@pytest.mark.slow
def test_twenty_starts_of_eight_seeds(tmp_path):
    def once(i):
        return subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / str(i)], timeout=120, check=False).returncode

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(once, range(20))) == [0] * 20
