"""The host side: endings, parity with Gymnasium, spaces, seeds, sources, and all ways to fail."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import gymnasium as gym
import host_cases as cases
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from host_cases import FAULTS, LINE, Answers, Counter, Echo, Faulty, Masked, Modules, Nested, Noise

from thorndike.envs.adapters import gymnasium as adapter
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.host import HostBatch
from thorndike.errors import ConfigError, EnvError, IncompatibleError, MissingExtraError, UnknownNameError

BACKENDS = ["serial", "thread", "process"]
ZERO = np.zeros(2, np.int32)


def flat(step):
    """All arrays of a timestep, for comparisons bit for bit."""
    return [step.obs, step.reward, step.terminated, step.truncated, step.final_obs, step.first]


def play(batch, *actions):
    batch.reset()
    return [batch.step(action) for action in actions]


def rollout(env, actions, workers, seed=0):
    with env.batch(actions.shape[1], seed, workers) as batch:
        return [flat(batch.reset())] + [flat(batch.step(action)) for action in actions]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


# --- endings and parity --------------------------------------------------------------------------------


def check_counter(batch, length=3, steps=14):
    """Time goes 1, 2, ..., length, 1, ...: no step is missing or invented, and final_obs tells the last."""
    now = batch.reset()
    assert now.first.all()
    assert not now.obs.any()
    for step in range(steps):
        now = batch.step(ZERO[: batch.num_envs])
        t, episode = step % length + 1, step // length
        end = t == length
        np.testing.assert_array_equal(now.final_obs, np.full((batch.num_envs, 1), t, np.float32))
        np.testing.assert_array_equal(now.obs, np.full((batch.num_envs, 1), 0 if end else t, np.float32))
        np.testing.assert_array_equal(now.reward, np.full(batch.num_envs, t, np.float32))
        assert (now.first == end).all()
        assert (now.terminated == (end and episode % 2 == 0)).all()
        assert (now.truncated == (end and episode % 2 == 1)).all()


@pytest.mark.parametrize("workers", BACKENDS)
def test_endings(workers, monkeypatch):
    with GymnasiumEnvironment(Counter).batch(2, 0, workers) as batch:
        check_counter(batch)
    monkeypatch.setattr(HostBatch, "_final", lambda self, now, name, first: now)
    with GymnasiumEnvironment(Counter).batch(2, 0, workers) as batch, pytest.raises(AssertionError):
        check_counter(batch)


def gymnasium_rollout(name, actions, seed=0):
    """The same by hand: plain Gymnasium environments and a reset where an episode ends."""
    envs, steps = [gym.make(name) for _ in range(actions.shape[1])], []
    obs = np.stack([env.reset(seed=seed * 10007 + i)[0] for i, env in enumerate(envs)]).astype(np.float32)
    no = np.zeros(len(envs), bool)
    steps.append([obs, np.zeros(len(envs), np.float32), no, no, obs, ~no])
    for action in actions:
        rows = []
        for env, a in zip(envs, action):
            final, reward, terminated, truncated, _ = env.step(a)
            ended = terminated or truncated
            obs = env.reset()[0] if ended else final
            rows.append([obs, reward, terminated, truncated and not terminated, final, ended])
        kinds = [np.float32, np.float32, bool, bool, np.float32, bool]
        steps.append([np.stack(column).astype(kind) for column, kind in zip(zip(*rows), kinds)])
    return steps


@pytest.mark.parametrize("workers", BACKENDS)
def test_parity_with_gymnasium(workers):
    actions = np.random.default_rng(0).integers(0, 2, (250, 3))
    ours = rollout(GymnasiumEnvironment("CartPole-v1"), actions, workers, seed=7)
    assert sum(step[-1].sum() for step in ours) > 10
    assert_same(ours, gymnasium_rollout("CartPole-v1", actions, seed=7))


def test_parity_of_continuous_control():
    pytest.importorskip("mujoco")
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 2, 6)).astype(np.float32)
    env = GymnasiumEnvironment("HalfCheetah-v5", max_episode_steps=15)
    assert (env.max_steps, env.observation_space.dtype) == (15, np.float32)
    ours = rollout(env, actions, "serial")
    assert sum(step[3].sum() for step in ours) == 4
    theirs = gymnasium_rollout("HalfCheetah-v5", actions[:14])
    assert_same(ours[:15], theirs)


@pytest.mark.parametrize("workers", BACKENDS)
def test_timesteps_are_the_callers_to_keep(workers):
    with GymnasiumEnvironment(Noise).batch(2, 0, workers) as batch:
        kept = [batch.reset()] + [batch.step(ZERO) for _ in range(12)]
        copies = [[np.copy(x) for x in flat(step)] for step in kept[:-1]]
        for _ in range(3):
            batch.step(ZERO)
        assert_same([flat(step) for step in kept[:-1]], copies)


# --- seeds --------------------------------------------------------------------------------


def test_seeds():
    actions = np.zeros((30, 3), int)
    env = GymnasiumEnvironment(Noise)
    same = [rollout(env, actions, workers, seed=5) for workers in BACKENDS]
    assert_same(same[0], same[1])
    assert_same(same[0], same[2])
    other = rollout(env, actions, "serial", seed=6)
    assert not np.array_equal(same[0][0][0], other[0][0])
    assert len(np.unique(same[0][0][0][:, 0])) == 3
    expected = np.random.default_rng(5 * 10007 + 1).normal(size=2)
    np.testing.assert_array_equal(same[0][0][0][1], expected.astype(np.float32))


def test_a_second_reset_goes_on():
    with GymnasiumEnvironment(Noise).batch(1) as batch:
        assert not np.array_equal(batch.reset().obs, batch.reset().obs)


# --- spaces --------------------------------------------------------------------------------

SPACES = [
    (Discrete(3), np.array([0, 2], np.int32), [[0], [2]]),
    (Discrete(3, start=5), np.array([0, 2], np.int32), [[5], [7]]),
    (
        Box(-1, np.array([1, 2, 3], np.float32), (3,), np.float32),
        np.array([[-5, 0, 9], [0.5, 2, 1]]),
        [[-1, 0, 3], [0.5, 2, 1]],
    ),
    (Box(-1, 1, (1, 2), np.float64), np.array([[[0.5, 3]], [[0, 0]]], np.float32), [[0.5, 1], [0, 0]]),
    (MultiDiscrete([2, 3], start=[0, 1]), np.array([[1, 2], [0, 0]], np.int32), [[1, 3], [0, 1]]),
    (MultiBinary(3), np.array([[1, 0, 1], [0, 0, 1]], np.int32), [[1, 0, 1], [0, 0, 1]]),
]


@pytest.mark.parametrize(("space", "action", "seen"), SPACES, ids=lambda x: str(x) if hasattr(x, "sample") else "")
@pytest.mark.parametrize("workers", ["serial", "thread"])
def test_action_spaces(space, action, seen, workers):
    with GymnasiumEnvironment(Echo, space=space).batch(2, 0, workers) as batch:
        batch.reset()
        np.testing.assert_array_equal(batch.step(action).obs, np.array(seen, np.float32))


def test_action_spaces_in_processes():
    for space, action, seen in SPACES[1:5:2]:
        with GymnasiumEnvironment(Echo, space=space).batch(2, 0, "process") as batch:
            batch.reset()
            np.testing.assert_array_equal(batch.step(action).obs, np.array(seen, np.float32))


def test_actions_of_a_wrong_kind():
    with GymnasiumEnvironment(Counter).batch(2) as batch:
        with pytest.raises(ConfigError, match="reset"):
            batch.step(ZERO)
        batch.reset()
        with pytest.raises(ConfigError, match=r"shape \(3,\)"):
            batch.step(np.zeros(3, int))
        with pytest.raises(ConfigError, match="float"):
            batch.step(np.zeros(2))


@pytest.mark.parametrize("workers", BACKENDS)
def test_nested_observations(workers):
    env = GymnasiumEnvironment(Nested)
    assert env.observation_space["wide"].dtype == np.float32
    with env.batch(2, 0, workers) as batch:
        batch.reset()
        for t in (1, 2, 3, 4):
            now = batch.step(ZERO)
            for obs, time_ in ((now.final_obs, t), (now.obs, t % 4)):
                assert obs["image"].dtype == np.uint8
                assert (obs["image"] == time_).all()
                assert obs["image"].shape == (2, 2, 3, 1)
                np.testing.assert_array_equal(obs["pair"][0], [3 + time_] * 2)
                np.testing.assert_array_equal(obs["pair"][1], [[time_ % 2, 1]] * 2)
                np.testing.assert_array_equal(obs["wide"], np.array([[time_, -time_]] * 2, np.float32))
        assert now.terminated.all()


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Dict({"a": Discrete(2)}),
        gym.spaces.Tuple([Discrete(2)]),
        gym.spaces.Text(3),
    ],
)
def test_unsupported_actions(space):
    env = Counter()
    env.action_space = space
    with pytest.raises(IncompatibleError, match="action space"):
        GymnasiumEnvironment(env)


@pytest.mark.parametrize("space", [gym.spaces.Sequence(Discrete(2)), gym.spaces.Text(3)])
def test_unsupported_observations(space):
    env = Counter()
    env.observation_space = gym.spaces.Dict({"a": LINE, "b": space})
    with pytest.raises(IncompatibleError, match=r"observation\['b'\].*no fixed shape"):
        GymnasiumEnvironment(env)


# --- legal actions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "silent", "workers"),
    [("action_mask", False, "serial"), ("mask", True, "serial"), ("action_mask", True, "process")],
)
def test_masks(key, silent, workers):
    env = GymnasiumEnvironment(Masked, key=key, silent=silent)
    assert env.masked
    with env.batch(2, 0, workers) as batch:
        now = batch.reset()
        for t in range(1, 13):
            assert set(now.info) == {"mask", "final_mask"}
            now = batch.step(now.info["mask"].argmax(-1))
            end = t % 5 == 0
            np.testing.assert_array_equal(now.info["mask"], [np.arange(3) == t % 5 % 3] * 2)
            final = np.full(3, silent) if end else np.arange(3) == t % 5 % 3
            np.testing.assert_array_equal(now.info["final_mask"], [final] * 2)


def test_taxi_tells_its_mask():
    env = GymnasiumEnvironment("Taxi")
    assert env.masked
    assert env.max_steps == 200
    with env.batch(2) as batch:
        assert batch.reset().info["mask"].shape == (2, 6)
    assert not GymnasiumEnvironment("CartPole-v1").masked


def test_masks_that_fail():
    space = gym.Wrapper(Masked())
    space.action_space = Discrete(4)
    with pytest.raises(IncompatibleError, match="action_mask"):
        GymnasiumEnvironment(space)
    for info, says in ((None, "info has no"), ({"action_mask": np.zeros(3)}, "no action")):
        batch = GymnasiumEnvironment(partial(Forgetful, info)).batch(1)
        with pytest.raises(EnvError, match=says):
            play(batch, ZERO[:1])


class Forgetful(Masked):
    def __init__(self, info):
        super().__init__()
        self.info = info or {}

    def step(self, action):
        return *super().step(action)[:4], self.info


# --- sources --------------------------------------------------------------------------------


def test_sources():
    for source, kwargs, name in [
        ("CartPole-v1", {}, "CartPole-v1"),
        ("CartPole", {}, "CartPole-v1"),
        (Counter, {"length": 4}, "Counter"),
        (lambda: gym.make("CartPole-v1"), {}, "CartPole-v1"),
        (gym.make("CartPole-v1"), {}, "CartPole-v1"),
        (partial(Counter, 4), {}, "partial"),
        (Counter(4), {}, "Counter"),
    ]:
        env = GymnasiumEnvironment(source, **kwargs)
        assert env.id == name
        assert env.max_steps == (500 if "CartPole" in name else None)
        for n in (1, 3):
            with env.batch(n) as batch:
                assert batch.reset().obs.shape[0] == n
                batch.step(np.zeros(n, int))
        if name == "Counter":
            with env.batch(2) as batch:
                batch.reset()
                assert [bool(batch.step(ZERO).first.all()) for _ in range(4)] == [False] * 3 + [True]


def test_an_instance_serves_itself_and_stays_open():
    closed = []

    class Mine(Counter):
        def close(self):
            closed.append(self)

    mine = Mine()
    env = GymnasiumEnvironment(mine)
    with env.batch(1) as batch:
        batch.reset()
        batch.step(ZERO[:1])
        assert mine.t == 1
    assert mine not in closed
    with env.batch(2) as batch:
        batch.reset()
    assert len(closed) >= 2
    assert mine not in closed


def test_copies_of_an_instance_keep_its_wrappers():
    wrapped = gym.wrappers.RescaleObservation(
        gym.wrappers.TimeLimit(gym.make("MountainCar-v0"), 7), np.float32(0), np.float32(1)
    )
    env = GymnasiumEnvironment(wrapped)
    assert env.max_steps == 7
    with env.batch(2) as batch:
        obs = batch.reset().obs
        assert obs.min() >= 0
        assert [bool(batch.step(ZERO).truncated.all()) for _ in range(7)] == [False] * 6 + [True]
    bare = GymnasiumEnvironment(gym.make("CartPole-v1").unwrapped)
    assert bare.max_steps is None
    assert not isinstance(bare.make_one(), gym.wrappers.TimeLimit)


def test_an_instance_that_cannot_be_copied():
    env = Counter()
    env.lock = threading.Lock()
    with pytest.raises(ConfigError, match="pass its class"):
        GymnasiumEnvironment(env).batch(2)
    with pytest.raises(ConfigError, match="sent to a worker"):
        GymnasiumEnvironment(lambda: env).batch(1, 0, "process")


def test_no_source():
    for source in (3, gym.make_vec("CartPole-v1", num_envs=1)):
        with pytest.raises(ConfigError, match="no Gymnasium environment"):
            GymnasiumEnvironment(source)
    with pytest.raises(ConfigError, match=r"not a gymnasium\.Env"):
        GymnasiumEnvironment(lambda: 3)
    with pytest.raises(ConfigError, match="no arguments"):
        GymnasiumEnvironment(Counter(), length=3)
    with pytest.raises(EnvError, match="first reset"):
        GymnasiumEnvironment(cases.Broken)
    with pytest.raises(EnvError, match=r"(?s)CartPole-v1 could not be made: TypeError.*wheels"):
        GymnasiumEnvironment("CartPole-v1", wheels=4)


@pytest.mark.parametrize(
    ("name", "hint"), [("CartPol-v1", "CartPole-v1"), ("CartPole-v7", "CartPole-v1"), ("?", "Malformed")]
)
def test_unknown_ids(name, hint):
    with pytest.raises(UnknownNameError, match=hint):
        GymnasiumEnvironment(name)


def test_missing_extras():
    def without_mujoco():
        raise ModuleNotFoundError("No module named 'mujoco'", name="mujoco")

    def without_box2d():
        raise gym.error.DependencyNotInstalled("Box2D is not installed, you can install it by ...")

    for make, what in ((without_mujoco, r"thorndike\[mujoco\]"), (without_box2d, r"thorndike\[box2d\]")):
        with pytest.raises(MissingExtraError, match=f'pip install "{what}"') as caught:
            GymnasiumEnvironment(make)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingExtraError, match="pip install no_such_package"):
        GymnasiumEnvironment("no_such_package:Thing-v0")


def test_render_mode():
    env = GymnasiumEnvironment("CartPole-v1").make_one("rgb_array")
    assert env.render_mode == "rgb_array"
    with pytest.raises(ConfigError, match="render_mode"):
        GymnasiumEnvironment(Counter).make_one("rgb_array")


def test_arguments():
    env = GymnasiumEnvironment(Counter)
    for wrong in ({"num_envs": 0}, {"seed": -1}, {"workers": "many"}, {"timeout": 0}, {"on_error": "ignore"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            env.batch(**{"num_envs": 1, **wrong})


def test_automatic_workers(monkeypatch):
    def chosen(source, n):
        with GymnasiumEnvironment(source).batch(n) as batch:
            return batch.workers

    monkeypatch.setattr(adapter, "cores", lambda: 2)
    assert [chosen(Counter, 2), chosen(cases.Slow, 1), chosen(cases.Slow, 2)] == [
        "serial",
        "serial",
        "process",
    ]


# --- faults --------------------------------------------------------------------------------

HARMLESS = [kind for kind in FAULTS if kind not in ("hangs", "dies", "killed")]
CASES = (
    [(kind, phase, "serial") for kind in HARMLESS for phase in ("step", "reset")]
    + [("raises", "step", "thread"), ("nan", "reset", "thread")]
    + [("hangs", phase, workers) for phase in ("step", "reset") for workers in ("thread", "process")]
    + [(kind, phase, "process") for kind in ("raises", "dies") for phase in ("step", "reset")]
    + [("exits", "step", "process"), ("killed", "step", "process")]
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
    assert ("Traceback" in text) == (kind in ("raises", "exits"))
    with pytest.raises(EnvError, match="make a new one"):
        batch.step(ZERO)
    start = time.monotonic()
    batch.close()
    assert time.monotonic() - start < 5


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
        play(batch, *[ZERO[:1]] * 3)
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
        (Nested.observation_space, {"image": 0}, "keys ['image']"),
        (Nested.observation_space, 3, "observation has int"),
        (gym.spaces.Tuple([Discrete(2), Discrete(2)]), (1,), "observation is 1 parts"),
    ],
)
def test_observations_out_of_their_space(space, obs, says):
    for first, answer in (((obs, {}), None), (None, (obs, 0.0, False, False, {}))):
        batch = GymnasiumEnvironment(Answers, answer=answer, first=first, space=space).batch(1)
        with pytest.raises(EnvError) as caught:
            play(batch, *[ZERO[:1]] * 3)
        assert says in str(caught.value)


def test_what_is_tolerated():
    for space, obs in (
        (Box(-1, 1, (1,), np.float32), np.array([1.5])),  # float64, and a little outside
        (Box(-1, 1, (1,), np.float64), [1]),
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
        play(batch, np.full((1, 2), np.nan, np.float32))


def test_an_environment_that_cannot_be_made():
    made = []

    def make():
        made.append(1)
        return Counter() if len(made) < 2 else cases._raise()

    with pytest.raises(EnvError, match=r"(?s)environment 0 failed in its construction: Unhappy.*Traceback"):
        GymnasiumEnvironment(make).batch(2, 0, "serial")


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


@pytest.mark.parametrize("workers", ["thread", "process"])
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
            play(batch, *[ZERO[:1]] * 11)
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
