"""Two runs never write into one directory, and a run whose process is gone does not say that it goes on."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import thorndike as td
from thorndike.runs.storage.directory import new_directory, trained, training
from thorndike.runs.training import train

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


def test_a_run_stays_where_it_is_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = td.train(TINY, "CartPole-v1", 32, out="a run", progress=False)
    assert (run.journal.shell_path, run.journal.resume_with) == ("'a run'", "thorndike resume 'a run'")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.evaluate(2).returns.shape == (1, 2)
    assert td.resume(run.path, 64, progress=False).status["steps"] == 64
    assert run.journal.shell_path == f"'{tmp_path}/a run'"
    td.plot([run.path, str(run.path)], tmp_path / "curve.png", y="train/loss")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_home_directory_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert new_directory("~/run", TINY, "CartPole-v1") == tmp_path / "run"


def test_how_to_go_on_with_what_the_command_line_does_not_know(tmp_path):
    @td.config
    class Mine(td.PPO):
        """An algorithm of one's own."""

    algorithm = Mine(**vars(TINY))
    run = td.train(algorithm, lambda: gymnasium.make("CartPole-v1"), 16, out=tmp_path / "run", progress=False)
    assert run.journal.resume_with == f"td.resume({str(tmp_path / 'run')!r}, env=..., classes=[...])"
    assert td.open_run(run.path, classes=Mine).algorithm == algorithm


def test_an_open_run_acts_as_the_newest_checkpoint_does(tmp_path):
    path = td.train(TINY, "CartPole-v1", 16, out=tmp_path / "run", progress=False).path
    run, first = td.open_run(path), td.open_run(path)
    assert run.actors() is run.actors()
    td.resume(path, 160, progress=False)
    weights = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(r.actors())]) for r in (run, td.open_run(path))]
    np.testing.assert_array_equal(*weights)
    early = jax.tree.leaves(first.actors(16))
    assert not np.array_equal(weights[0], np.concatenate([np.ravel(x) for x in early]))


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


def test_what_forks_does_not_keep_the_directory(tmp_path):
    with training(tmp_path):
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
    try:
        assert not trained(tmp_path)
        with training(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_looking_does_not_keep_from_training(tmp_path):
    """Another thread looks all the time."""
    stop = []
    with ThreadPoolExecutor(1) as pool:
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


# --- types of your own ------------------------------------------------------------------------------------------------


def doubles():
    """An algorithm, an environment and a torso that are called as ours are."""

    @td.config
    class CartPole(td.CartPole):
        def step(self, state, action, key):
            return super().step(state, action, key)._replace(reward=jnp.float32(-5.0))

    @td.config
    class Torso(td.Torso):
        pass

    @td.config
    class PPO(td.PPO):
        pass

    return PPO, CartPole, Torso


def test_ours_never_stands_in_for_yours_of_the_same_name(tmp_path):
    PPO, CartPole, Torso = doubles()
    algorithm = PPO(num_envs=2, rollout_length=8, minibatch_size=16, epochs=1, torso=Torso(widths=(4,)))
    run = td.train(algorithm, CartPole(), 32, out=tmp_path / "run", progress=False)
    assert run.evaluate(2).returns.max() < 0
    path = run.agent().save(tmp_path / "agent.safetensors")
    for opened in (lambda **own: td.open_run(run.path, **own), lambda **own: td.load(path, **own)):
        with pytest.raises((td.CheckpointError, td.ConfigError), match=r"is a class of your own.*classes="):
            _ = opened().algorithm  # curves and metrics need no class
        assert type(opened(classes=[PPO, Torso]).algorithm) is PPO
    with pytest.raises(td.ConfigError, match=r"is a class of your own.*classes="):
        _ = td.open_run(run.path, classes=[PPO, Torso]).env
    again = td.open_run(run.path, classes=[PPO, Torso, CartPole])
    assert again.evaluate(2).returns.max() < 0


# --- steps, starts and races ------------------------------------------------------------------------------------------


def test_steps_may_be_written_as_floats_and_of_numpy(tmp_path):
    run = td.train(TINY, "CartPole-v1", 1.6e1, out=tmp_path / "run", progress=False)
    for steps in (4.8e1, np.int64(64), np.float32(96)):
        assert td.resume(run.path, steps, progress=False).status["steps"] == steps
    for steps in ("128", 128.5, True, float("nan"), 10**12):
        with pytest.raises(td.ConfigError, match="steps must be"):
            td.resume(run.path, steps, progress=False)
    assert td.open_run(run.path).info["steps"] == 96


def test_a_start_that_fails_leaves_room_for_the_next(tmp_path, monkeypatch):
    def broken(run):
        raise td.ConfigError("not like this")

    with monkeypatch.context() as patch:
        patch.setattr(train, "driver_of", broken)
        with pytest.raises(td.ConfigError, match="not like this"):
            td.train(TINY, "CartPole-v1", 16, out=tmp_path / "run", progress=False)
    td.train(TINY, "CartPole-v1", 16, out=tmp_path / "run", progress=False)


def test_ctrl_c_while_environments_are_made_leaves_room_too(tmp_path, monkeypatch):
    def stopped(run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "driver_of", stopped)
        with pytest.raises(KeyboardInterrupt):
            td.train(TINY, "CartPole-v1", 16, out=tmp_path / "run", progress=False)
    td.train(TINY, "CartPole-v1", 16, out=tmp_path / "run", progress=False)


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints/1000/weights"])
def test_what_others_keep_under_our_names_is_left_alone(tmp_path, name):
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    with pytest.raises(td.ConfigError, match="holds metrics, checkpoints or a status already"):
        td.train(TINY, "CartPole-v1", 16, out=tmp_path / "run", progress=False)
    assert [p for p in (tmp_path / "run").rglob("*") if p.is_file()] == [path]
    assert path.read_text() == "theirs"


def test_without_standard_error_nothing_is_said_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)  # as in a process without a console
    td.train(TINY, "CartPole-v1", 160, out=tmp_path / "run", progress=True)
    assert capsys.readouterr().out == ""


def test_what_the_user_says_of_devices_and_caches_is_heard(tmp_path):
    code = (
        "import jax; from thorndike.runs.training.setup import prepare_jax; prepare_jax(); "
        "print(jax.device_count(), jax.config.jax_compilation_cache_dir)"
    )
    said = {"JAX_NUM_CPU_DEVICES": "1", "XDG_CACHE_HOME": "", "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    env = {name: x for name, x in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"} | said
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert found.split() == ["1", str(tmp_path / ".cache" / "thorndike" / "xla")]


def test_of_two_that_start_at_once_one_has_the_directory(tmp_path):
    """Whoever has it has all of it."""

    def one(path, seed):
        try:
            return td.train(TINY, "CartPole-v1", 16, seed=seed, out=path, progress=False)
        except td.ConfigError:
            return None

    with ThreadPoolExecutor(2) as pool:
        for i in range(5):
            path = tmp_path / str(i)
            pairs = [pool.submit(one, path, seed) for seed in (1, 2)]
            winners = [run for run in (pair.result() for pair in pairs) if run is not None]
            assert len(winners) == 1
            assert td.open_run(path).seed == winners[0].seed
