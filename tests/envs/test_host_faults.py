"""The host side when environments raise, hang, die, or break their contract."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import host_cases as cases
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from host_cases import FAULTS, Answers, Counter, Echo, Faulty, Modules, Nested

from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.errors import EnvError

BACKENDS = ["serial", "process"]
ZERO = np.zeros(2, np.int32)


# --- faults --------------------------------------------------------------------------------

HARMLESS = [kind for kind in FAULTS if kind not in ("hangs", "dies", "killed", "crashes")]
CASES = (
    [(kind, phase, "serial") for kind in HARMLESS for phase in ("step", "reset")]
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
    [("raises", "serial"), ("hangs", "serial"), ("dies", "process"), ("nan", "process")],
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

batch = GymnasiumEnvironment(Mine).batch(2, 0, "process")
batch.reset()
assert batch.step(np.zeros(2, int)).reward.sum() == 2
print(*[worker._popen.pid for worker in batch._workers], flush=True)
if sys.argv[1] == "hang":
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    batch.step(np.ones(2, int))
"""


@pytest.mark.parametrize("ending", ["exit", "hang"])
def test_scripts_need_no_guard_and_leave_no_orphans(ending, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", ending],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == (0 if ending == "exit" else -signal.SIGKILL), done.stderr
    assert "Traceback" not in done.stderr
    pids = done.stdout.split()
    assert pids
    assert_gone(pids, within=5)


def test_the_worker_module_is_light():
    code = "import sys, thorndike.envs.host.process; sys.exit('jax' in sys.modules)"
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
