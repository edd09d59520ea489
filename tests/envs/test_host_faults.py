"""The host side when environments raise, hang, die, or break their contract."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import gymnasium as gym
import host_cases as cases
import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from host_cases import FAULTS, Answers, AtOnce, Counter, Dawdling, Echo, Faulty, Modules, Nested

import thorndike as td
from thorndike.cli import main
from thorndike.drivers.evaluate import evaluate
from thorndike.envs import host_backends
from thorndike.envs.adapters import gymnasium as adapter
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.errors import EnvError
from thorndike.ops.keys import random_key
from thorndike.runs.agent import Agent
from thorndike.runs.record import record
from thorndike.runs.run import describe

BACKENDS = ["serial", "thread", "process"]
ZERO = np.zeros(2, np.int32)


# --- faults --------------------------------------------------------------------------------

HARMLESS = [kind for kind in FAULTS if kind not in ("hangs", "dies", "killed", "crashes")]
CASES = (
    [(kind, phase, "serial") for kind in HARMLESS for phase in ("step", "reset")]
    + [("raises", "step", "thread"), ("nan", "reset", "thread")]
    + [("hangs", phase, workers) for phase in ("step", "reset") for workers in BACKENDS]
    + [(kind, phase, "process") for kind in ("raises", "dies") for phase in ("step", "reset")]
    + [("exits", "step", "process"), ("killed", "step", "process"), ("crashes", "step", "process")]
)


@pytest.mark.parametrize(("kind", "phase", "workers"), CASES)
def test_faults_are_named(kind, phase, workers):
    seed, timeout = 0, 0.5 if kind == "hangs" else 20.0
    env = GymnasiumEnvironment(Faulty, kind=kind, phase=phase, unlucky=1)
    batch = env.batch(2, seed, workers, timeout)
    batch.reset()
    before = 2 if phase == "step" else 3
    for _ in range(before):
        batch.step(ZERO)
    start = time.monotonic()
    with pytest.raises(EnvError) as caught:
        batch.step(ZERO)
    assert time.monotonic() - start < timeout + 5
    text = str(caught.value)
    assert FAULTS[kind][0] in text
    where = f"in step {before + 1} (step {before + 1} of its episode)" if phase == "step" else "in reset, after step 4"
    assert text.startswith(f"environment 1 failed {where}")
    traced = kind in ("raises", "exits", "hangs", "crashes")
    assert ("Traceback" in text) == traced
    assert ("host_cases.py" in text) == traced
    with pytest.raises(EnvError, match="make a new one"):
        batch.step(ZERO)
    start = time.monotonic()
    batch.close()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("at", [1, 1000])
@pytest.mark.parametrize(
    ("kind", "workers"),
    [("raises", "serial"), ("hangs", "serial"), ("hangs", "thread"), ("dies", "process"), ("nan", "process")],
)
def test_the_first_step_and_the_thousandth(kind, workers, at):
    timeout = 0.5 if kind == "hangs" else 20.0
    with GymnasiumEnvironment(Faulty, kind=kind, at=at, unlucky=1).batch(2, 0, workers, timeout) as batch:
        batch.reset()
        for _ in range(at - 1):
            batch.step(ZERO)
        start = time.monotonic()
        with pytest.raises(EnvError, match=f"environment 1 failed in step {at} ") as caught:
            batch.step(ZERO)
        assert time.monotonic() - start < timeout + 5
        assert FAULTS[kind][0] in str(caught.value)


@pytest.mark.parametrize("kind", ["raises", "exits", "hangs"])
@pytest.mark.parametrize(("phase", "says"), [("construction", "could not be made"), ("reset", "in its first reset")])
def test_what_fails_at_once_is_named(kind, phase, says, monkeypatch):
    """Where the spaces are learned, before there is a batch."""
    monkeypatch.setattr(host_backends, "START", 0.5)
    start = time.monotonic()
    with pytest.raises(EnvError, match="AtOnce") as caught, host_backends.starts_within(0.1):
        GymnasiumEnvironment(AtOnce, kind=kind, phase=phase)
    assert time.monotonic() - start < 5
    reason = "no answer in 0.5 s" if kind == "hangs" else FAULTS[kind][0]
    assert says in str(caught.value)
    assert reason in str(caught.value)
    assert f"in {'__init__' if phase == 'construction' else 'reset'}\n" in str(caught.value)  # the traceback


def test_a_run_does_not_wait_for_what_never_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(host_backends, "START", 0.5)
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
    with host_backends.starts_within(np.inf):
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
    assert (workers, "it did not answer in time; its thread was abandoned" in text) == ("thread", True)


def test_a_run_on_what_exits_says_so(tmp_path, capfd):
    gym.register("Exits-v0", entry_point="host_cases:AtOnce", kwargs={"kind": "exits", "phase": "step"})
    for _ in range(2):  # the second finds the directory free
        assert main(["train", "ppo", "gymnasium/Exits-v0", "--out", str(tmp_path / "run"), "--steps", "2048"]) == 1
        assert "environment 0 failed in step 1" in capfd.readouterr().err


GOOD = np.zeros(1, np.float32)
ANSWERS = [
    ((GOOD, 0.0, False, {}), "not (obs, reward, terminated, truncated, info)"),
    (None, "NoneType"),
    ((GOOD, np.nan, False, False, {}), "reward is nan"),
    ((GOOD, -np.inf, False, False, {}), "reward is -inf"),
    ((GOOD, 1e39, False, False, {}), "not a finite float32"),
    ((GOOD, "much", False, False, {}), "reward is str 'much'"),
    ((GOOD, np.zeros(3), False, False, {}), "reward has shape (3,)"),
    ((GOOD, 0.0, {}, False, {}), "terminated is dict"),
    ((GOOD, 0.0, False, None, {}), "truncated is NoneType"),
]


@pytest.mark.parametrize(("answer", "says"), ANSWERS)
def test_wrong_answers(answer, says):
    answer = answer if answer is not None else ()
    says = says if answer else "a tuple of 0 values"
    batch = GymnasiumEnvironment(Answers, answer=answer).batch(1)
    with pytest.raises(EnvError) as caught:
        cases.play(batch, *[ZERO[:1]] * 3)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("space", "obs", "says"),
    [
        (Discrete(3), 3, "outside of its space"),
        (Discrete(3, start=1), 0, "outside of its space"),
        (Discrete(3), 1.5, "dtype float64"),
        (MultiDiscrete([2, 2]), np.array([0, 2]), "outside of its space"),
        (MultiBinary(2), np.array([0, 2], np.int8), "outside of its space"),
        (Box(0, 255, (1,), np.uint8), np.array([300]), "dtype int64"),
        (Box(0, 255, (1,), np.uint8), np.array([0.5]), "dtype float64"),
        (Box(0, 10, (2,), np.int32), np.array([3, 11], np.int32), "outside of its space"),
        (Box(1, 10, (2,), np.uint8), np.array([3, 0], np.uint8), "outside of its space"),
        (Box(-5, 5, (20, 20), np.int16), np.full((20, 20), 9, np.int16), "9 somewhere, outside of its space"),
        (Box(0, 1, (4, 4), np.float32), np.full((4, 4), 255, np.float32), "255.0 at [0, 0], far outside of its space"),
        (Box(-1, 1, (3,), np.float64), np.array([0, 0, 30.0]), "30.0 at [2], far outside of its space (-1.0 to 1.0)"),
        (Box(100, 110, (2,), np.float32), np.array([105, -1], np.float32), "-1.0 at [1], far outside"),
        (Box(-1, 1, (), np.float16), np.float16(30), "is 30.0, far outside of its space (-1.0 to 1.0)"),
        (Box(0, 1, (), np.float32), 20, "is 20.0, far outside of its space (0.0 to 1.0)"),
        (Box(0, 255, (), np.uint8), 300, "dtype int64"),
        (Nested.observation_space, {"image": 0}, "keys ['image']"),
        (Nested.observation_space, 3, "observation has int"),
        (gym.spaces.Tuple([Discrete(2), Discrete(2)]), (1,), "observation is 1 parts"),
    ],
)
def test_observations_out_of_their_space(space, obs, says):
    for first, answer in (((obs, {}), None), (None, (obs, 0.0, False, False, {}))):
        batch = GymnasiumEnvironment(Answers, answer=answer, first=first, space=space).batch(1)
        with pytest.raises(EnvError) as caught:
            cases.play(batch, *[ZERO[:1]] * 3)
        assert says in str(caught.value)


def test_what_is_tolerated():
    for space, obs in (
        (Box(-1, 1, (1,), np.float32), np.array([1.5])),  # float64, and a little outside
        (Box(-1, 1, (1,), np.float64), [1]),
        (Box(-1, 1, (1,), np.float32), np.array([-20.9], np.float32)),  # less than 10 of its widths away
        (Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,), np.float32), np.array([1e30], np.float32)),
        (Box(0, 0, (1,), np.float64), np.array([2.0**-30])),
        (Box(0, np.inf, (1,), np.float32), np.array([-1e9], np.float32)),
        (Discrete(3), np.array(2)),
        (MultiBinary(2), np.array([True, False])),
    ):
        env = GymnasiumEnvironment(Answers, answer=(obs, np.array(1), np.bool_(False), 0, {}), space=space)
        with env.batch(1) as batch:
            batch.reset()
            for _ in range(3):
                now = batch.step(ZERO[:1])
            np.testing.assert_array_equal(now.obs[0], obs)
            assert now.reward == 1


def test_an_action_that_is_not_finite_is_mentioned():
    space = Box(-1, 1, (2,), np.float32)
    with (
        GymnasiumEnvironment(Echo, space=space).batch(1) as batch,
        pytest.raises(EnvError, match="may have diverged"),
    ):
        cases.play(batch, np.full((1, 2), np.nan, np.float32))


def test_an_environment_that_cannot_be_made():
    made = []

    def make():
        made.append(1)
        return Counter() if len(made) < 2 else cases._raise()

    with pytest.raises(EnvError, match=r"(?s)environment 0 failed in its construction: Unhappy.*Traceback"):
        GymnasiumEnvironment(make).batch(2, 0, "serial")


@pytest.mark.parametrize("kind", HARMLESS)
def test_faults_at_the_thousandth_step_are_named(kind):
    with GymnasiumEnvironment(Faulty, kind=kind, at=1000).batch(1, 0, "serial") as batch:
        batch.reset()
        for _ in range(999):
            batch.step(ZERO[:1])
        with pytest.raises(EnvError, match=r"environment 0 failed in step 1000 \(step 4 of its episode\)"):
            batch.step(ZERO[:1])


# --- restarts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "workers"),
    [("raises", "serial"), ("nan", "thread"), ("raises", "process"), ("killed", "process")],
)
def test_restarts(kind, workers):
    """Each copy fails at its third step, so time goes 1, 2, lost, 1, 2, lost, ..."""
    env = GymnasiumEnvironment(Faulty, kind=kind)
    with env.batch(1, 0, workers, 20.0, "restart") as batch:
        batch.reset()
        for step in range(9 if kind == "killed" else 36):
            now = batch.step(ZERO[:1])
            t = step % 3 + 1
            lost = t == 3
            assert now.truncated == now.first == lost
            assert not now.terminated
            assert now.reward == (0 if lost else 1)
            assert now.final_obs == (2 if lost else t)
            assert now.obs == (0 if lost else t)
        assert batch.restarts == (step + 1) // 3
        assert FAULTS[kind][0] in batch.last_fault
        assert "environment 0 failed in step" in batch.last_fault


@pytest.mark.parametrize("workers", BACKENDS)
def test_restart_after_a_hang(workers):
    env = GymnasiumEnvironment(Faulty, kind="hangs", unlucky=1)  # a rebuilt copy has another seed: it behaves
    with env.batch(2, 0, workers, 1.0, "restart") as batch:
        batch.reset()
        seen = [batch.step(ZERO) for _ in range(6)]
    assert [bool(step.truncated[1]) for step in seen] == [False, False, True, False, False, False]
    assert seen[2].final_obs[1] == 2
    assert seen[3].final_obs[1] == 1
    assert batch.restarts in (1, 2)  # the other copy shares the worker where there is one core


def test_a_reset_that_fails_keeps_the_episode_that_ended():
    with GymnasiumEnvironment(Faulty, kind="raises", phase="reset").batch(1, 0, on_error="restart") as batch:
        batch.reset()
        seen = [batch.step(ZERO[:1]) for _ in range(8)]
    assert [bool(step.terminated) for step in seen] == [False] * 3 + [True] + [False] * 3 + [True]
    assert seen[3].final_obs == 4
    assert seen[3].reward == 1
    assert seen[3].obs == 0
    assert batch.restarts == 2


def test_only_the_failed_environment_restarts():
    env = GymnasiumEnvironment(Faulty, kind="raises", unlucky=1)
    with env.batch(2, 0, "serial", on_error="restart") as batch:
        batch.reset()
        seen = [batch.step(ZERO) for _ in range(4)]
    assert [step.truncated.tolist() for step in seen] == [[False, x] for x in (False, False, True, False)]
    assert seen[3].terminated.tolist() == [True, False]


def test_a_rebuilt_environment_has_a_seed_of_its_own():
    with GymnasiumEnvironment(cases.SeedTeller).batch(2, 3, on_error="restart") as batch:
        assert batch.reset().obs[:, 0].tolist() == [30021, 30022]
        assert batch.step(ZERO).obs[:, 0].tolist() == [1030024, 1030025]
        assert batch.step(ZERO).obs[:, 0].tolist() == [2030027, 2030028]


@pytest.mark.parametrize("workers", BACKENDS)
def test_hopeless_environments_raise(workers):
    with GymnasiumEnvironment(cases.Hopeless).batch(1, 0, workers, on_error="restart") as batch:
        batch.reset()
        for _ in range(10):
            assert batch.step(ZERO[:1]).truncated
        with pytest.raises(EnvError, match="failure 11"):
            batch.step(ZERO[:1])
        assert batch.restarts == 10


def test_environments_that_kill_every_worker_raise():
    env = GymnasiumEnvironment(Faulty, kind="dies", at=1)
    with env.batch(1, 0, "process", on_error="restart") as batch:
        with pytest.raises(EnvError, match="exit code 5"):
            cases.play(batch, *[ZERO[:1]] * 11)
        assert batch.restarts == 10


# --- processes --------------------------------------------------------------------------------


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_gone(pids, within):
    until = time.monotonic() + within
    while any(map(alive, pids)):
        assert time.monotonic() < until, "orphans"
        time.sleep(0.05)


def test_workers_do_not_import_jax_and_end_with_close():
    assert "jax" in sys.modules
    with GymnasiumEnvironment(Modules).batch(2, 0, "process") as batch:
        obs = batch.reset().obs
        pids = [worker._popen.pid for worker in batch._workers]
    assert not obs[:, 0].any()
    assert os.getpid() not in obs[:, 1]
    assert not any(map(alive, pids))
    with pytest.raises(EnvError, match="closed"):
        batch.reset()
    batch.close()


def test_a_worker_killed_from_outside():
    with GymnasiumEnvironment(Counter).batch(2, 0, "process", on_error="restart") as batch:
        batch.reset()
        batch.step(ZERO)
        for worker in batch._workers:
            worker._popen.send_signal(signal.SIGKILL)
            worker._popen.wait()
        now = batch.step(ZERO)
        assert now.truncated.all()
        assert (now.final_obs == 1).all()
        assert (now.obs == 0).all()
        assert "between two steps" in batch.last_fault
        assert (batch.step(ZERO).final_obs == 1).all()
        assert batch.restarts == 2


def test_an_interrupt_closes_the_way():
    batch = GymnasiumEnvironment(cases.Interrupted).batch(1)
    batch.reset()
    with pytest.raises(KeyboardInterrupt):
        batch.step(ZERO[:1])
    with pytest.raises(EnvError, match="interrupted"):
        batch.step(ZERO[:1])
    batch.close()


SCRIPT = """
import os, sys, time, threading, signal
import gymnasium as gym, numpy as np
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment

class Mine(gym.Env):  # in __main__, which workers do not import
    observation_space, action_space = gym.spaces.Box(0, 1, (1,), np.float32), gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}
    def step(self, action):
        if sys.argv[1] == "hang" and action:
            time.sleep(60)
        return np.zeros(1, np.float32), 1.0, False, False, {}

batch = GymnasiumEnvironment(Mine).batch(2, 0, sys.argv[2])
batch.reset()
assert batch.step(np.zeros(2, int)).reward.sum() == 2
print(*[getattr(w, "_popen", w).pid for w in batch._workers] if sys.argv[2] == "process" else [], flush=True)
if sys.argv[1] == "hang":
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    batch.step(np.ones(2, int))
"""


@pytest.mark.parametrize(("ending", "workers"), [("exit", "process"), ("hang", "process"), ("exit", "thread")])
def test_scripts_need_no_guard_and_leave_no_orphans(ending, workers, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", ending, workers],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == (0 if ending == "exit" else -signal.SIGKILL), done.stderr
    assert "Traceback" not in done.stderr
    pids = done.stdout.split()
    assert bool(pids) == (workers == "process")
    assert_gone(pids, within=5)


def test_the_worker_module_is_light():
    code = "import sys, thorndike.envs.host_worker; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_worker_killed_every_five_seconds_costs_little():
    """Steps in a minute with a worker killed every 5 s, against a minute without: at least 70%."""

    def steps(seconds, kill):
        env, count = GymnasiumEnvironment("HalfCheetah-v5"), 0
        with env.batch(8, 0, "process", 20.0, "restart") as batch:
            batch.reset()
            action, start, last = np.zeros((8, 6), np.float32), time.monotonic(), time.monotonic()
            while time.monotonic() - start < seconds:
                batch.step(action)
                count += 1
                if kill and time.monotonic() - last > 5:
                    os.kill(batch._workers[count % len(batch._workers)]._popen.pid, signal.SIGKILL)
                    last = time.monotonic()
            assert (batch.restarts > 0) == kill
        return count

    calm, killed = steps(60, False), steps(60, True)
    print("steps in a minute", calm, "with kills", killed)
    assert killed >= 0.7 * calm


# --- episodes that a restart drops ------------------------------------------------------------------------------------

POLICY = td.PPO(num_envs=2, rollout_length=4, minibatch_size=8, torso=td.Torso(widths=(4,)))


@pytest.mark.parametrize(("kind", "workers"), [("raises", "serial"), ("nan", "process"), ("dies", "process")])
def test_no_result_and_no_recording_is_of_a_dropped_episode(kind, workers):
    """Each copy fails once in its third episode's third step: whole episodes have four."""
    env = GymnasiumEnvironment(Faulty, kind=kind, at=11)
    agent = Agent(POLICY, spec := describe(env, 8, ""), POLICY.actor(POLICY.init(random_key(0), spec)))
    how = {"workers": workers, "on_error": "restart"}
    actors = jax.tree.map(lambda x: x[None], agent.actor)
    found = evaluate(POLICY, actors, env, 40, how=how)
    np.testing.assert_array_equal(found.returns, np.full((1, 40), 4.0))
    np.testing.assert_array_equal(found.lengths, np.full((1, 40), 4))
    recorded = record(agent, env, 40, how=how)
    assert [x.rewards.sum() for x in recorded] == [4.0] * 40
    assert all(x.terminations[-1] and not x.truncations.any() for x in recorded)


def test_whole_episodes_that_never_come_are_not_waited_for():
    env = GymnasiumEnvironment(Faulty, kind="raises", at=2)
    agent = Agent(POLICY, spec := describe(env, 8, ""), POLICY.actor(POLICY.init(random_key(0), spec)))
    how = {"workers": "serial", "on_error": "restart"}
    text = r"(\d+) episodes were dropped, where 3 were wanted: environment \d failed in step .*Unhappy"
    with pytest.raises(EnvError, match=text):
        evaluate(POLICY, jax.tree.map(lambda x: x[None], agent.actor), env, 3, how=how)
    with pytest.raises(EnvError, match=text):
        record(agent, env, 3, how=how)


def test_episodes_that_the_environment_itself_cuts_count():
    env = GymnasiumEnvironment(Counter)  # every other episode
    agent = Agent(POLICY, spec := describe(env, 8, ""), POLICY.actor(POLICY.init(random_key(0), spec)))
    found = evaluate(POLICY, jax.tree.map(lambda x: x[None], agent.actor), env, 20, how={"workers": "serial"})
    np.testing.assert_array_equal(found.returns, np.full((1, 20), 6.0))
    assert {bool(x.truncations[-1]) for x in record(agent, env, 20)} == {True, False}
