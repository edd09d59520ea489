"""What serves as an environment on the host: ids, classes, functions, instances; and what is no such thing."""

import threading
from functools import partial

import gymnasium as gym
import host_cases as cases
import numpy as np
import pytest
from host_cases import Counter
from test_host import ZERO

import thorndike as td
from thorndike.envs.adapters import gymnasium as adapter
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.errors import ConfigError, EnvError, IncompatibleError, MissingExtraError, UnknownNameError


def test_sources():
    for source, kwargs, name in [
        ("CartPole-v1", {}, "CartPole-v1"),
        ("CartPole", {}, "CartPole-v1"),
        (Counter, {"length": 4}, "Counter"),
        (lambda: gym.make("CartPole-v1"), {}, "CartPole-v1"),
        (gym.make("CartPole-v1"), {}, "CartPole-v1"),
        (partial(Counter, 4), {}, "Counter"),
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


def test_copies_of_an_instance_are_as_it_was_made():
    """Not as its id would make it."""
    mine = gym.make("CartPole-v1")
    mine.unwrapped.theta_threshold_radians = -1.0
    for n in (1, 3):
        with GymnasiumEnvironment(mine).batch(n) as batch:
            batch.reset()
            assert batch.step(ZERO[:1].repeat(n)).terminated.all()


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


class Alone(Counter):
    """Its reset gives the observation alone, in which there are four numbers, or two."""

    def __init__(self, size=4):
        super().__init__()
        self.observation_space = gym.spaces.Box(-1, 1, (size,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.observation_space.shape, np.float32)


class Spaceless(gym.Env):
    """It has one space, or none."""

    def __init__(self, seen=None):
        if seen is not None:
            self.observation_space = seen

    def reset(self, *, seed=None, options=None):
        return 0, {}


class Old:
    """Of no class of Gymnasium's, by its old interface."""

    observation_space, action_space = Counter.observation_space, Counter.action_space

    def reset(self):
        return np.zeros(1)

    def step(self, action):
        return np.zeros(1), 1.0, False, {}


OLD = {
    "four": (Alone, EnvError, r"^Alone failed in its first reset: reset returned ndarray '.*', not \(obs, info\)$"),
    "two": (lambda: Alone(2), EnvError, r"failed in its first reset: reset returned ndarray .*, not \(obs, info\)$"),
    "no spaces": (Spaceless, IncompatibleError, "Spaceless has no observation_space: set self.observation_space to"),
    "one space": (lambda: Spaceless(gym.spaces.Discrete(2)), IncompatibleError, "has no action_space: set self.action"),
    "no space": (lambda: Spaceless((3,)), IncompatibleError, r"has a builtins\.tuple as observation_space: set self"),
    "old": (Old, ConfigError, r"made a Old, not a gymnasium\.Env: derive its class from gymnasium\.Env, whose reset"),
    "old instance": (Old(), ConfigError, r"Old is no Gymnasium environment: derive its class from gymnasium\.Env"),
    "vector": (gym.make_vec("CartPole-v1", num_envs=2), ConfigError, "a batch already, .* num_envs of the algorit"),
    "vectors": (lambda: gym.vector.SyncVectorEnv([Counter]), ConfigError, "made a SyncVectorEnv.*: it is a batch alre"),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_older_interfaces_and_batches_are_told_what_is_right(name):
    source, error, text = OLD[name]
    with pytest.raises(error, match=text) as caught:
        td.make(source)
    assert "td.config" not in str(caught.value) or "old" in name


@pytest.mark.parametrize(
    ("name", "hint"), [("CartPol-v1", "CartPole-v1"), ("CartPole-v7", "CartPole-v1"), ("?", "Malformed")]
)
def test_unknown_ids(name, hint):
    with pytest.raises(UnknownNameError, match=hint):
        GymnasiumEnvironment(name)


def test_ids_with_a_family_are_gymnasiums_own():
    """Their last part is a built-in environment's name."""
    gym.register("family/CartPole-v1", Counter)
    assert td.make("gymnasium/family/CartPole-v1").id == td.make("family/CartPole-v1").id == "family/CartPole-v1"
    assert isinstance(td.make("gymnasium/CartPole-v1"), GymnasiumEnvironment)
    assert isinstance(td.make("thorndike/CartPole-v1"), td.CartPole)


def test_missing_extras():
    def without_mujoco():
        raise ModuleNotFoundError("No module named 'mujoco'", name="mujoco")

    def without_box2d():
        raise gym.error.DependencyNotInstalled("Box2D is not installed, you can install it by ...")

    for make, what in ((without_mujoco, r"thorndike\[mujoco\]"), (without_box2d, r"thorndike\[box2d\]")):
        with pytest.raises(MissingExtraError, match=f'pip install "{what}"') as caught:
            GymnasiumEnvironment(make)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnknownNameError, match=r"in the module 'no_such_package', which Python does not find"):
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
