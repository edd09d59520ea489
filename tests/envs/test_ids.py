"""Which environment an id stands for, with and without its version."""

import json

import gymnasium as gym
import pytest

import thorndike as td
from thorndike.commands.train import train_arguments
from thorndike.envs import full_id
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment


@pytest.fixture
def registered():
    """Registers ids of Gymnasium's for one test."""
    names = []

    def register(name):
        gym.register(name, entry_point="gymnasium.envs.classic_control:CartPoleEnv")
        names.append(name)

    yield register
    for name in names:
        del gym.registry[name]


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("CartPole", "CartPole-v1"),
        ("gymnasium/CartPole", "gymnasium/CartPole-v1"),
        ("thorndike/CartPole", "thorndike/CartPole-v1"),
        ("Taxi", "Taxi-v4"),
        ("thorndike/Taxi", "thorndike/Taxi-v4"),
        ("CartPoleNoVel", "CartPoleNoVel-v1"),
        ("HalfCheetah", "HalfCheetah-v5"),
        ("phys2d/CartPole", "phys2d/CartPole-v1"),
        *[(name, name) for name in ("CartPole-v1", "CartPole-v0", "FourRooms", "cartpole", "Nothing", "ALE/Nothing")],
        *[(name, name) for name in ("gymnasium/CartPole-v0", "envpool/Pong", "gymnax/CartPole", "my_envs:CartPole")],
    ],
)
def test_an_id_without_a_version_is_the_newest(name, full):
    assert full_id(name) == full


def test_what_a_user_registered_counts_too(registered):
    registered("Acrobot-v7")
    registered("CartPoleNoVel")
    assert (full_id("Acrobot"), full_id("thorndike/Acrobot")) == ("Acrobot-v7", "thorndike/Acrobot-v1")
    assert full_id("CartPoleNoVel") == "CartPoleNoVel"


def test_the_twin_is_found_without_a_version():
    assert td.make("CartPole") == td.make("CartPole-v1")
    assert td.make("thorndike/Taxi") == td.make("Taxi-v4")
    assert isinstance(td.make("gymnasium/CartPole"), GymnasiumEnvironment)


def test_the_preset_is_found_without_a_version():
    for env in ("CartPole", "gymnasium/CartPole"):
        assert td.preset("dqn", env) == td.preset("dqn", "CartPole-v1") != td.DQN()
        (algorithm,), name, options = train_arguments(["dqn", env])
        assert algorithm == td.preset("dqn", "CartPole-v1")
        assert (name, options.steps) == (full_id(env), 100_000)


def test_a_run_keeps_the_whole_id(tmp_path):
    run = td.train("q_learning", "CliffWalking", 200, out=tmp_path / "run", progress=False)
    described = json.loads((tmp_path / "run" / "run.json").read_text())["environment"]
    assert described["id"] == "CliffWalking-v1"
    assert run.algorithm == td.preset("q_learning", "CliffWalking-v1")
    assert run.env == td.make("CliffWalking-v1")


@pytest.mark.parametrize("name", ["cartpole", "CartPol", "gymnasium/CartPol", "CartPole-v7"])
def test_near_misses_are_told_the_right_id(name):
    with pytest.raises(td.UnknownNameError, match="CartPole-v1"):
        td.make(name)
