"""Two runs never write into one directory, and a run whose process is gone does not say that it goes on."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import thorndike as td
from thorndike.runs.directory import new_directory, trained, training

TINY = td.PPO(num_envs=2, rollout_length=8, minibatch_size=16, epochs=1, torso=td.Torso(widths=(4,)))
ENDLESS = """
import sys
import thorndike as td
agent = td.PPO(num_envs=2, rollout_length=8, minibatch_size=16, epochs=1, torso=td.Torso(widths=(4,)))
td.train(agent, "CartPole-v1", 2_000_000_000, out=sys.argv[1], checkpoint_every=0, progress=False)
"""


def test_directories_made_at_once_are_different(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        paths = list(pool.map(lambda _: new_directory(None, TINY, "CartPole-v1"), range(64)))
    assert len(set(paths)) == 64


def test_one_trains_in_a_directory_until_it_is_killed(tmp_path):
    """Another process does; this one may look at the run, and resume it when the other was killed."""
    path = tmp_path / "run"
    other = subprocess.Popen([sys.executable, "-c", ENDLESS, path])
    try:
        give_up = time.monotonic() + 120
        while not (path / "status.json").exists():
            assert other.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.05)
        run = td.open_run(path)
        assert run.status["state"] == "running"
        with pytest.raises(td.ConfigError, match="is being trained already"):
            td.resume(path)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    assert run.status["state"] == "interrupted"
    steps = (run.status["steps"] // 16 + 1) * 16
    assert td.resume(path, steps, progress=False).status["state"] == "finished"


def test_looking_does_not_keep_from_training(tmp_path):
    """Sixteen threads look all the time."""
    stop = []
    with ThreadPoolExecutor(16) as pool:
        for _ in range(16):
            pool.submit(lambda: [trained(tmp_path) for _ in iter(lambda: bool(stop), True)])
        try:
            for _ in range(20):
                with training(tmp_path):
                    assert trained(tmp_path)
        finally:
            stop.append(True)
    assert not trained(tmp_path)


@pytest.mark.parametrize("status", ["[]", "{}", '{"state": "running"}', "{"])
def test_a_damaged_status_is_said(tmp_path, status):
    run = td.train(TINY, "CartPole-v1", 32, out=tmp_path / "run", progress=False)
    (run.path / "status.json").write_text(status)
    with pytest.raises(td.CheckpointError, match=r"status\.json"):
        td.resume(run.path, 64, progress=False)
    (run.path / "status.json").unlink()
    assert td.resume(run.path, 64, progress=False).status["steps"] == 64
