"""A simulator of which there is only one, such as a robot: what was trained in it is evaluated, recorded and filmed."""

import logging
import threading

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box

import thorndike as td

SMALL = td.SAC(num_envs=1, replay=td.Uniform(capacity=100, batch_size=8, warmup=10), torso=td.Torso(widths=(8,)))


class Robot(gym.Env):
    """An episode's first observation is its number; the return is that number."""

    observation_space, action_space = Box(-1e6, 1e6, (1,), np.float32), Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode="rgb_array"):
        self.render_mode, self.line = render_mode, threading.Lock()  # which cannot be copied
        self.closed, self.episode, self.drawn = False, -1, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return np.array([self.episode], np.float32), {}

    def step(self, action):
        self.t += 1
        return np.array([self.episode], np.float32), self.episode * (self.t == 1.0), False, self.t >= 5, {}

    def render(self):
        self.drawn += 1
        return np.full((16, 16, 3), self.t, np.uint8)

    def close(self):
        self.closed = True


class Port(Robot):
    """Nobody can open a second one."""

    opened = 0

    def __init__(self, render_mode=None):
        if Port.opened:
            raise OSError("address already in use")
        Port.opened += 1
        super().__init__(render_mode)

    def close(self):
        Port.opened -= 1


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    env = Robot()
    return env, td.train(SMALL, env, 40, out=tmp_path_factory.mktemp("robot") / "run", progress=False)


def test_episodes_are_played_one_after_the_other(robot, caplog):
    env, run = robot
    before = env.episode
    with caplog.at_level(logging.WARNING, "thorndike"):
        found = run.evaluate(20)
    np.testing.assert_array_equal(found.returns, [np.arange(before + 1, before + 21)])
    np.testing.assert_array_equal(found.lengths, np.full((1, 20), 5))
    assert not caplog.records
    assert not env.closed


def test_so_are_those_that_are_recorded(robot, tmp_path):
    env, run = robot
    before = env.episode
    data = run.record(3, tmp_path / "data")
    np.testing.assert_array_equal(data.returns, np.arange(before + 1, before + 4))
    assert not env.closed


def test_it_is_filmed_itself(robot, tmp_path):
    env, run = robot
    before, drawn = env.episode, env.drawn
    film = run.watch(tmp_path / "film.gif", episodes=2)
    assert film.returns == [before + 1, before + 2]
    assert env.drawn >= drawn + 10
    assert not env.closed


def test_a_run_of_it_is_opened_and_goes_on(robot):
    env, run = robot
    assert td.open_run(run.path, env=env).evaluate(5).returns.shape == (1, 5)
    assert td.resume(run.path, 60, env=env, progress=False).status["steps"] == 60
    assert td.check(env)


def test_a_function_that_can_make_one_at_a_time(tmp_path, caplog):
    run = td.train(SMALL, Port, 40, out=tmp_path / "run", progress=False, workers="serial")
    with caplog.at_level(logging.WARNING, "thorndike"):
        found = run.evaluate(3)
    np.testing.assert_array_equal(found.returns, [[0, 1, 2]])
    assert "there can be no 3 at once: environment 1 failed in its construction: OSError: address" in caplog.text
    assert len(run.record(3, tmp_path / "data").lengths) == 3
    assert Port.opened == 0


def test_where_none_can_be_made_the_first_error_is_said(tmp_path):
    run = td.train(SMALL, Port, 40, out=tmp_path / "run", progress=False, workers="serial")
    taken = Port()
    with pytest.raises(td.EnvError, match="environment 0 failed in its construction: OSError: address already in use"):
        run.evaluate(3)
    taken.close()


def test_what_does_not_draw_says_how_to_make_it(tmp_path):
    env = Robot(render_mode=None)
    run = td.train(SMALL, env, 40, out=tmp_path / "run", progress=False)
    with pytest.raises(td.ConfigError, match="Robot was made without render_mode='rgb_array': make it with that"):
        run.watch(tmp_path / "film.gif")


def test_several_need_a_class():
    with pytest.raises(td.ConfigError, match="pass its class or a function that makes one, or step it alone, with num"):
        td.train(td.PPO(num_envs=2, rollout_length=8, minibatch_size=16), Robot(), 32, progress=False)
