"""What a user is warned of, and that it is so: statistics of wrappers' own, numbers that float32 cannot tell apart."""

import logging
import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit

import thorndike as td
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment


class Sign(gym.Env):
    """Shows 100 + 5z with z in {-1, 1}, which changes with each step; a reward of 1 for saying which."""

    observation_space, action_space = Box(0, 200, (1,), np.float32), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.see(), {}

    def see(self):
        self.z = int(self.np_random.integers(2))
        return np.array([100 + 5 * (2 * self.z - 1)], np.float32)

    def step(self, action):
        reward, self.t = float(action == self.z), self.t + 1
        return self.see(), reward, self.t >= 5, False, {}


class Moments:
    mean, var, count = 0.0, 1.0, 0


class Own(gym.ObservationWrapper):
    """As people write it."""

    def __init__(self, env):
        super().__init__(env)
        self.obs_rms = Moments()

    def observation(self, observation):
        return observation


class Table(gym.Wrapper):
    """With a table like pandas', whose moments are methods."""

    def __init__(self, env):
        super().__init__(env)
        self.table = type("Table", (), {name: lambda self: 0.0 for name in ("mean", "var", "count")})()


def frozen():
    env = NormalizeObservation(Sign())
    env.update_running_mean = False
    return env


OBSERVATION = "NormalizeObservation: each copy .* normalize_observation=True"
REWARD = "NormalizeReward: each copy .* normalize_reward=True"


@pytest.mark.parametrize(
    ("make", "warnings"),
    [
        (lambda: TimeLimit(NormalizeReward(NormalizeObservation(Sign())), 4), [REWARD, OBSERVATION]),
        (lambda: NormalizeObservation(Sign()), [OBSERVATION]),
        (lambda: Own(Sign()), ["Own: each copy .* normalize_observation=True"]),
        (frozen, []),
        (lambda: Table(Sign()), []),
        (lambda: TimeLimit(Sign(), 4), []),
    ],
)
@pytest.mark.parametrize("instance", [False, True])
def test_running_statistics_are_warned_of(make, warnings, instance, caplog):
    with caplog.at_level(logging.WARNING, "thorndike"):
        GymnasiumEnvironment(make() if instance else make)
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == len(warnings)
    for text, pattern in zip(found, warnings):
        assert re.search(pattern, text)


def test_training_warns_once(tmp_path, caplog):
    ppo = td.PPO(num_envs=2, rollout_length=8, minibatch_size=16, epochs=1)
    with caplog.at_level(logging.WARNING, "thorndike"):
        td.train(ppo, lambda: NormalizeObservation(Sign()), 32, out=tmp_path / "run", progress=False, workers="serial")
    assert sum("NormalizeObservation" in record.getMessage() for record in caplog.records) == 1


def test_copies_scale_apart():
    """What is warned of: the same observation is another number in another copy."""
    with GymnasiumEnvironment(lambda: NormalizeObservation(Sign())).batch(8, seed=0) as batch:
        batch.reset()
        seen = [batch.step(np.zeros(8, int)).final_obs for _ in range(3)][-1]
    assert len(set(np.round(seen.ravel(), 3))) > 2


class Shows(gym.Env):
    """Shows one thing."""

    action_space = Discrete(2)

    def __init__(self, space, shown):
        self.observation_space, self.shown = space, shown

    def reset(self, *, seed=None, options=None):
        return self.shown, {}

    def step(self, action):
        return self.shown, 0.0, False, True, {}


def double(*numbers):
    return Box(-np.inf, np.inf, (len(numbers),), np.float64), np.array(numbers)


CLOCK, METRES = double(0.5, 1.7e9), double(0.5, -5e6)


@pytest.mark.parametrize(
    ("space", "shown", "apart"),
    [
        (*CLOCK, 128),
        (Dict({"a": METRES[0], "t": CLOCK[0]}), {"a": METRES[1], "t": CLOCK[1]}, 128),
        (Tuple([METRES[0], CLOCK[0]]), (METRES[1], CLOCK[1]), 128),
        (*double(-(2.0**24)), 2),
        (*METRES, None),
        (*double(), None),
        (Box(-np.inf, np.inf, (1,), np.float32), np.array([1.7e9], np.float32), None),
        (Box(0, 2**31 - 1, (1,), np.int64), np.array([1_700_000_000]), None),
    ],
)
def test_numbers_that_float32_cannot_tell_apart_are_warned_of(space, shown, apart, caplog):
    with caplog.at_level(logging.WARNING, "thorndike"):
        GymnasiumEnvironment(lambda: Shows(space, shown))
    found = [f"such numbers are {apart} apart" in record.getMessage() for record in caplog.records]
    assert found == [True] * bool(apart)
    if apart:
        largest = max(np.abs(part).max() for part in ([shown] if isinstance(shown, np.ndarray) else [CLOCK[1]]))
        assert np.float32(largest + apart / 4) == np.float32(largest)
