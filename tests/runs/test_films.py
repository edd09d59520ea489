"""Films of environments on the host, which draw themselves."""

from __future__ import annotations

import time

import jax
import numpy as np
import pytest
import small_runs as small

import thorndike as td
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.host import guard
from thorndike.runs.results.video import film


class Drawn(small.FiveSteps):
    """Draws itself."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("most", "returns", "says"),
    [
        (100, [5.0] * 4, "(return 5.0, 5.0, 5.0, 5.0)"),
        (12, [5.0, 5.0], "(return 5.0, 5.0; stopped after 12 frames, with 2.0 so far)"),
        (10, [5.0, 5.0], "(return 5.0, 5.0; stopped after 10 frames, with 0.0 so far)"),
        (3, [], "(no episode ended; stopped after 3 frames, with 3.0 so far)"),
    ],
)
def test_a_film_tells_the_returns_of_whole_episodes(most, returns, says, tmp_path):
    env = GymnasiumEnvironment(Drawn)
    spec = td.Spec(env.observation_space, env.action_space)
    agent = td.Agent(small.PPO, spec, small.PPO.actor(small.PPO.init(jax.random.key(0), spec)))
    found = film(agent, env, tmp_path / "film.gif", episodes=4, most_frames=most)
    assert found.returns == returns
    assert str(found).endswith(says)


def test_a_film_has_a_frame(tmp_path):
    with pytest.raises(td.ConfigError, match="frames must be positive, got 0"):
        film(None, None, tmp_path / "film.gif", most_frames=0)


class Spoilt(Drawn):
    """Its third step answers, or does, what it should not."""

    def __init__(self, how, render_mode=None):
        super().__init__(render_mode)
        self.how = how

    def step(self, action):
        good = super().step(action)
        return self.how(*good) if self.t == 3 else good


def broken(*answer):
    raise RuntimeError("out of order")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (broken, "RuntimeError: out of order"),
        (lambda obs, *more: (obs * np.nan, *more), "observation is not finite"),
        (lambda obs, reward, *more: (obs, np.nan, *more), "reward is nan"),
    ],
)
def test_a_film_of_a_host_environment_at_fault_is_not_made(how, says, tmp_path):
    env = GymnasiumEnvironment(Spoilt, how=how)
    spec = td.Spec(env.observation_space, env.action_space)
    agent = td.Agent(small.PPO, spec, small.PPO.actor(small.PPO.init(jax.random.key(0), spec)))
    with pytest.raises(td.EnvError, match=f"environment 0 failed in step 3 .*{says}"):
        film(agent, env, tmp_path / "film.gif")
    assert not (tmp_path / "film.gif").exists()


class Undrawn(Drawn):
    """Its third picture fails, or never comes."""

    drawn = 0

    def __init__(self, seconds=0, render_mode=None):
        super().__init__(render_mode)
        self.seconds = seconds

    def render(self):
        self.drawn += 1
        if self.drawn == 3:
            time.sleep(self.seconds)
            raise RuntimeError("no brush")
        return super().render()


@pytest.mark.parametrize(("seconds", "says"), [(0, "RuntimeError: no brush"), (30, "no answer in 0.5 s")])
def test_a_picture_that_fails_or_never_comes_is_said(seconds, says, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "START", 0.5)
    env = GymnasiumEnvironment(Undrawn, seconds=seconds)
    spec = td.Spec(env.observation_space, env.action_space)
    agent = td.Agent(small.PPO, spec, small.PPO.actor(small.PPO.init(jax.random.key(0), spec)))
    with pytest.raises(td.EnvError, match=rf"(?s)a frame could not be drawn: {says}.*in render"):
        film(agent, env, tmp_path / "film.gif", timeout=0.5)
