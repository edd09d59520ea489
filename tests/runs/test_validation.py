"""What cannot work is refused before a run starts, with what to do about it."""

from __future__ import annotations

import dataclasses
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as small
from gymnasium.spaces import Box, Dict, Discrete, Tuple

import thorndike as td
from thorndike.errors import ConfigError, IncompatibleError, MissingExtraError, UnknownNameError
from thorndike.runs.training import validation


@td.config
class Walk:
    """Its space reads a number that compiled programs see as a tracer."""

    size: float = 3.0
    max_steps: int = 10

    @property
    def observation_space(self):
        return Box(-self.size, self.size, (1,))

    @property
    def action_space(self):
        return Discrete(2)

    def reset(self, key):
        return td.Step(jnp.float32(0), jnp.zeros(1))

    def step(self, state, action, key):
        return td.Step(state, jnp.zeros(1), 1.0)


@td.config
class Spaceless:
    """It forgot its spaces."""

    def reset(self, key):
        return td.Step(jnp.float32(0), jnp.zeros(1))

    def step(self, state, action, key):
        return td.Step(state, jnp.zeros(1), 1.0)


class Undecorated:
    """It forgot `td.config`."""

    observation_space, action_space = Box(-1, 1, (1,)), Discrete(2)

    def reset(self, key):
        return td.Step(jnp.float32(0), jnp.zeros(1))

    def step(self, state, action, key):
        return td.Step(state, jnp.zeros(1), 1.0)


@td.config
class Unfinished:
    """An algorithm that was only begun."""

    num_envs: int = 1

    def act(self, actor, carry, now, key, explore):
        return now.obs, carry, {}


@td.config
class Agreeable(td.PPO):
    """It says yes in another way than it should."""

    def supports(self, spec):
        return True


class Keyed(small.FiveSteps):
    """Its observation has a part under a key of one's choice."""

    def __init__(self, key):
        self.observation_space = Tuple([Dict({key: Discrete(2)})])

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


class Shapeless(small.FiveSteps):
    """It shows nothing."""

    observation_space = Box(-1, 1, (0,))

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


class Partless(Shapeless):
    """It shows nothing in another way."""

    observation_space = Dict({})


class Idle(small.FiveSteps):
    """There is nothing to do in it."""

    action_space = Box(-1, 1, (0,))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"steps": 0}, ConfigError, "steps must be a positive whole number, got 0"),
        ({"steps": 10**12}, ConfigError, "steps must be at most 2,000,000,000 for each run, got 1,000,000,000,000"),
        ({"steps": 1.5}, ConfigError, "steps must be a positive whole number"),
        ({"steps": "16"}, ConfigError, "steps must be a positive whole number, got '16'"),
        ({"steps": float("inf")}, ConfigError, "steps must be a positive whole number, got inf"),
        ({"seeds": 0}, ConfigError, "seeds must be a positive whole number"),
        ({"seed": -1}, ConfigError, "seed must be a whole number from 0"),
        ({"seed": 2**32}, ConfigError, "seed must be a whole number from 0"),
        ({"keep": 0}, ConfigError, "keep must be a positive whole number"),
        ({"log_every": -1}, ConfigError, "log_every must be a positive number of steps, got -1"),
        ({"log_every": "a"}, ConfigError, "log_every must be a positive number of steps, got 'a'"),
        ({"checkpoint_every": "x"}, ConfigError, "checkpoint_every is seconds, 0 or more, got 'x'"),
        ({"env_timeout": "5"}, ConfigError, "env_timeout is seconds, more than 0, got '5'"),
        ({"env_kwargs": {"nonsense": 1.0}}, ConfigError, "CartPole has no field 'nonsense'; it has gravity, "),
        ({"env": td.CartPole(), "env_kwargs": {"gravity": 1.0}}, ConfigError, "CartPole exists already and takes no"),
        ({"env": td.RewardScale(env=td.CartPole(), scale=td.Linear(1.0))}, ConfigError, "not an environment's"),
        ({"env": Walk()}, ConfigError, "the spaces of Walk depend on its float fields"),
        ({"env": td.FrameStack(env=Walk())}, ConfigError, "the spaces of FrameStack depend on its float fields"),
        ({"workers": "treads"}, ConfigError, "workers must be one of auto, serial, process, got 'treads'"),
        ({"algorithm": "pp0"}, UnknownNameError, "did you mean 'ppo'"),
        ({"algorithm": 5}, ConfigError, "5 is not an algorithm"),
        ({"algorithm": td.PPO(learning_rate=np.zeros((2, 2)))}, ConfigError, "1-D array"),
        ({"algorithm": td.PPO(learning_rate=np.zeros(0))}, ConfigError, "PPO.learning_rate"),
        ({"algorithm": td.PPO(learning_rate=np.zeros(2), clip=np.ones(3))}, ConfigError, r"one length.*\[2, 3\]"),
        ({"env": "CartPole-v7"}, UnknownNameError, "CartPole-v1"),
        ({"env": "GridWold"}, UnknownNameError, "did you mean 'GridWorld'"),
        ({"env": 5}, IncompatibleError, "5 is not an environment"),
        ({"algorithm": td.DQN(), "env": "Pendulum-v1"}, IncompatibleError, "Algorithms that can serve it: .*ppo.*sac"),
        ({"env": "envpool/CartPole-v1", "env_kwargs": {"max_episode_steps": np.int64(9)}}, ConfigError, "run.json"),
        ({"env": lambda: Shapeless()}, IncompatibleError, "a part without any numbers"),
        ({"env": lambda: Partless()}, IncompatibleError, r"the observation space is Dict\(\), without any parts"),
        ({"env": lambda: Idle()}, IncompatibleError, "without any numbers: there is nothing to choose"),
        ({"env": lambda: Keyed(3)}, IncompatibleError, "a Dict observation needs names as keys, and this has 3"),
        ({"algorithm": dataclasses.replace(small.PPO, num_envs=0)}, ConfigError, "num_envs must be a positive whole"),
        ({"algorithm": dataclasses.replace(small.DQN, rollout_length=-1)}, ConfigError, "rollout_length must be a pos"),
        ({"algorithm": Unfinished()}, ConfigError, r"Unfinished lacks init, .*; def learn\(self, state, ro"),
        ({"algorithm": Agreeable()}, ConfigError, "Agreeable.supports must give None or what is missing, not True"),
        ({"env": Walk(size=1.0, max_steps=2**31)}, ConfigError, "Walk needs max_steps, its time limit, in 32 bits"),
        ({"env": Walk}, ConfigError, "the spaces of Walk depend on its float fields"),
        ({"env": Spaceless()}, IncompatibleError, "Spaceless is no JAX environment: it lacks observation_space"),
        ({"env": Undecorated}, ConfigError, "a JAX environment is a class with @td.config"),
        ({"env": Undecorated()}, ConfigError, "a JAX environment is a class with @td.config"),
        ({"on_env_error": "restart"}, ConfigError, "cannot be restarted"),
        ({"log_every": np.inf}, ConfigError, "log_every must be a positive number of steps, got inf"),
        ({"tensorboard": True}, MissingExtraError, r"pip install \"thorndike\[tensorboard\]\""),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_written(change, error, text, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    out = tmp_path / "run"
    arguments = {"algorithm": small.PPO, "env": "CartPole-v1", "steps": 16, "progress": False, "out": out, **change}
    with pytest.raises(error, match=text):
        td.train(arguments.pop("algorithm"), arguments.pop("env"), **arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (np.ones((50, 50)), r"table=array\(\[\[1\..{5,30} cannot be kept in run.json: Object of type ndarray is not"),
        (lambda: 1, "table=<function .* cannot be kept in run.json: Object of type function is not JSON"),
        ([0.1] * 300_000, r"table=\[0.1, .{5,40} cannot be kept in run.json: it has more than 1,000,000 bytes of JSON"),
    ],
)
def test_data_for_an_environment_by_its_id(table, why, tmp_path, monkeypatch):
    def make(table=()):
        return small.FiveSteps()

    spec = gymnasium.envs.registration.EnvSpec("WithTable-v0", entry_point=make)
    monkeypatch.setitem(gymnasium.registry, "WithTable-v0", spec)
    with pytest.raises(ConfigError, match=why) as caught:
        small.train("PPO", tmp_path / "run", env="WithTable-v0", env_kwargs={"table": table})
    assert "a function: lambda: gymnasium.make('WithTable-v0', table=...)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350
    assert not (tmp_path / "run").exists()
    env = lambda: gymnasium.make("WithTable-v0", table=table)  # noqa: E731
    assert small.train("PPO", tmp_path / "run", env=env, steps=16).status["state"] == "finished"


@pytest.mark.parametrize("env", ["CartPole-v1", "gymnasium/CartPole-v1"])
def test_a_memory_that_does_not_fit_is_refused(env, tmp_path, monkeypatch):
    """A transition of CartPole is 4 + 4 float32, an action, a reward and three flags: 50 bytes or so."""
    replay = dataclasses.replace(small.DQN.replay, capacity=10**12 // 50)
    how = {"algorithm": dataclasses.replace(small.DQN, replay=replay), "env": env}
    if replay.capacity < 2**31:
        with pytest.raises(ConfigError, match=r"the replay memory takes 1,\d\d\d\.\d GB, and .* lower replay.capacity"):
            small.train("DQN", tmp_path / "run", **how)
    monkeypatch.setattr(validation, "free_memory", lambda: 2_000.0)
    with pytest.raises(ConfigError, match=r"takes 0.0 GB, and 0.0 GB are free"):
        small.train("DQN", tmp_path / "run", env=env)
    monkeypatch.setattr(validation, "free_memory", lambda: 20_000.0)
    assert small.train("DQN", tmp_path / "run", env=env, steps=64).status["state"] == "finished"


def test_whole_numbers_of_numpy_are_whole_numbers(tmp_path):
    run = small.train("PPO", tmp_path / "run", steps=16, seed=np.int64(3), seeds=np.int32(2), keep=np.uint8(1))
    assert [member["seed"] for member in run.members()] == [3, 4]
    numbers = {name: np.int64(getattr(small.PPO, name)) for name in ("num_envs", "rollout_length", "minibatch_size")}
    algorithm = dataclasses.replace(small.PPO, torso=td.Torso(widths=(np.int64(4),), init="uniform"), **numbers)
    for i, env in enumerate((td.CartPole(max_steps=np.int64(9)), "gymnasium/CartPole-v1")):
        run = small.train("PPO", tmp_path / f"{i}", algorithm=algorithm, env=env, steps=np.int64(32))
        found = td.open_run(run.path)
        assert (found.algorithm, found.status["steps"]) == (small.PPO, 32)
        assert type(found.env.max_steps) is int


def test_double_precision_is_refused_with_the_name_of_what_asked_for_it(tmp_path):
    with jax.enable_x64(True), pytest.raises(ConfigError, match="unset JAX_ENABLE_X64"):
        small.train("PPO", tmp_path / "run")
