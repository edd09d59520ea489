"""Films: what environments draw becomes frames, at their own rate; environments on the host draw themselves."""

from __future__ import annotations

import subprocess
import sys
import time

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs as small
from PIL import Image

import thorndike as td
from thorndike.cli import main
from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment
from thorndike.envs.host import guard
from thorndike.runs.results import video
from thorndike.runs.results.frames import fit, frame_of
from thorndike.runs.results.video import Film, film, frame_rate


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
        (14, [5.0, 5.0], "(return 5.0, 5.0; stopped after 14 frames, with 2.0 so far)"),
        (12, [5.0, 5.0], "(return 5.0, 5.0; stopped after 12 frames, with 0.0 so far)"),
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


# --- frames -----------------------------------------------------------------------------------------------------------

RGB = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
GREY = np.repeat(RGB[..., :1], 3, -1)
ON = RGB > 127


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (RGB, RGB),
        (RGB[::-1, ::-1], RGB[::-1, ::-1]),
        (RGB / 255, RGB),
        ((RGB / 255 * 1.0000001).astype(np.float32), RGB),
        (RGB.astype(np.float64), RGB),
        (RGB.astype(np.int64), RGB),
        (jnp.asarray(RGB), RGB),
        (ON, 255 * ON),
        (np.dstack([RGB, RGB[..., 0]]), RGB),
        (RGB[..., 0], GREY),
        (RGB[..., :1], GREY),
        (RGB[..., 0] / 255, GREY),
        (RGB.transpose(2, 0, 1), RGB),
        (RGB[:, :, :1].transpose(2, 0, 1), GREY),
        ([GREY, RGB], RGB),
        ((RGB,), RGB),
        (RGB.tolist(), RGB),
        (Image.fromarray(RGB), RGB),
        ([Image.fromarray(GREY), Image.fromarray(RGB).convert("RGBA")], RGB),
        (np.zeros((5, 5)), np.zeros((5, 5, 3))),
        (RGB[:1, :1], RGB[:1, :1]),
        (RGB[:3, :7], RGB[:3, :7]),
    ],
)
def test_whatever_is_a_picture_becomes_a_frame(drawn, expected):
    frame = frame_of(drawn, "Env")
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, expected)
    if isinstance(drawn, np.ndarray):
        assert not np.shares_memory(frame, drawn)


@pytest.mark.parametrize(
    ("drawn", "says"),
    [
        (None, r"Env draws no frames: render\(\) returned None"),
        ("+---+", r"Env draws no frames: render\(\) returned '\+---\+'"),
        ([], r"frames of float64 \[0\], which is no picture"),
        ([[1, 2], [3]], "is no picture"),
        (np.zeros((4, 4, 2)), r"frames of float64 \[4, 4, 2\], which is no picture"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"frames of uint8 \[2, 4, 4, 3\], which is no picture"),
        (np.zeros((0, 4, 3)), "is no picture"),
        (np.array([["a"]]), "is no picture"),
        (RGB - 1.0, r"frames of float64 \[40, 60, 3\] from -1 to 254"),
        (RGB.astype(int) * 2, r"frames of int64 \[40, 60, 3\] from 0 to 510"),
        (RGB * np.nan, "from nan to nan: return uint8, floats from 0 to 1, or numbers from 0 to 255"),
    ],
)
def test_what_is_no_picture_is_refused(drawn, says):
    with pytest.raises(td.ConfigError, match=says):
        frame_of(drawn, "Env")


def test_frames_get_the_size_of_the_first():
    assert fit(RGB, RGB) is RGB
    assert fit(RGB, np.zeros((20, 90, 3))).shape == (20, 90, 3)
    flat = np.full((7, 9, 3), (1, 20, 255), np.uint8)
    assert (fit(flat, RGB) == (1, 20, 255)).all()


# --- the film ---------------------------------------------------------------------------------------------------------


class Counting(small.FiveSteps):
    """Draws how many steps were taken, a column for each, into the same array each time."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(self, render_mode=None):
        self.render_mode, self.picture = render_mode, np.zeros((8, 6, 3), np.uint8)

    def render(self):
        self.picture[:] = 0
        self.picture[:, : self.t + 1] = 255
        return self.picture


def shot(path) -> tuple[list[np.ndarray], list[float]]:
    """Frames and seconds of a GIF."""
    frames, seconds = [], []
    with Image.open(path) as picture:
        for i in range(picture.n_frames):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB")))
            seconds.append(picture.info["duration"] / 1000)
    return frames, seconds


def filmed(env, path, **options) -> tuple[list[np.ndarray], list[float]]:
    algorithm = options.pop("algorithm", small.PPO)
    spec = td.Spec(env.observation_space, env.action_space)
    agent = td.Agent(algorithm, spec, algorithm.actor(algorithm.init(jax.random.key(0), spec)))
    film(agent, env, path, **options)
    return shot(path)


def test_a_film_shows_the_beginning_and_the_end_of_an_episode(tmp_path):
    frames, seconds = filmed(GymnasiumEnvironment(Counting), tmp_path / "film.gif")
    assert [int((frame[0, :, 0] > 127).sum()) for frame in frames] == [1, 2, 3, 4, 5, 6]
    assert seconds == [0.5] * 6


@td.config
class Walk:
    """Three steps to the right, compiled; each shows another brightness."""

    max_steps: int = 10
    render_fps: int = 5

    @property
    def observation_space(self):
        return gymnasium.spaces.Box(0, 3, (4,), np.float32)

    @property
    def action_space(self):
        return gymnasium.spaces.Discrete(2)

    def reset(self, key):
        return td.Step(jnp.int32(0), jnp.zeros(4))

    def step(self, state, action, key):
        return td.Step(state + 1, jnp.full(4, state + 1.0), jnp.float32(1), state == 2)

    def render(self, state):
        return np.full((4, 4), int(state) / 3)


def test_a_compiled_environment_is_seen_to_the_end_and_the_last_frame_is_held(tmp_path):
    frames, seconds = filmed(Walk(), tmp_path / "film.gif")
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 85, 170, 255]
    assert seconds == [0.2, 0.2, 0.2, pytest.approx(1.4)]
    frames, _ = filmed(Walk(), tmp_path / "film.gif", episodes=2)
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 85, 170, 255] * 2
    frames, seconds = filmed(td.TimeLimit(env=Walk(), steps=1), tmp_path / "film.gif")
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 85]
    assert seconds == [0.2, pytest.approx(1.8)]


def test_the_rate_is_that_of_the_environment():
    assert frame_rate(td.GridWorld(), 30) == 4
    assert frame_rate(td.TimeLimit(env=td.GridWorld(), steps=3), 30) == 4
    assert frame_rate(td.CartPole(), 30) == 30
    assert frame_rate(Counting(), 30) == 2
    assert frame_rate(gymnasium.wrappers.TimeLimit(Counting(), 3), 30) == 2
    for said in (None, 0, -1, float("nan"), float("inf"), "4"):
        counting = Counting()
        counting.metadata = {"render_fps": said}
        assert frame_rate(counting, 30) == 30


def test_a_film_may_explore(tmp_path):
    agent = td.QLearning(exploration=td.Epsilon(start=1.0, end=1.0))
    line = td.GridWorld(map=("G.......S.......G",), max_steps=12)
    greedy = filmed(line, tmp_path / "greedy.gif", algorithm=agent, seed=1)[0]
    random = filmed(line, tmp_path / "random.gif", algorithm=agent, seed=1, explore=True)[0]
    assert len(greedy) < len(random)


def test_mp4_has_even_sides_and_the_frames(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    env = GymnasiumEnvironment(Counting)
    spec = td.Spec(env.observation_space, env.action_space)
    agent = td.Agent(small.PPO, spec, small.PPO.actor(small.PPO.init(jax.random.key(0), spec)))
    film(agent, env, tmp_path / "film.mp4")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(tmp_path / "film.mp4")]
    raw = subprocess.check_output([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
    frames = np.frombuffer(raw, np.uint8).reshape(-1, 8, 6, 3)
    assert [int((frame[4, :, 0] > 127).sum()) for frame in frames] == [1, 2, 3, 4, 5, 6]


class NoBrush(Counting):
    """Draws with a package that is not there."""

    def render(self):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed, run `pip install it`")


class NoModule(Counting):
    """The same, said by Python."""

    def render(self):
        import not_there  # noqa: F401


@pytest.mark.parametrize(
    ("env", "says"), [(NoBrush, ": pygame is not installed, run"), (NoModule, " needs the module 'not_there', which")]
)
def test_a_package_that_drawing_lacks_is_said_in_one_line(env, says, tmp_path):
    with pytest.raises(td.MissingExtraError) as caught:
        filmed(GymnasiumEnvironment(env), tmp_path / "film.gif")
    assert str(caught.value).startswith(f"drawing {env.__name__}{says}")
    assert "\n" not in str(caught.value)


def test_so_does_the_command_line(tmp_path, capsys, monkeypatch):
    run = td.train("q-learning", "gymnasium/FrozenLake-v1", 8, out=tmp_path / "run", progress=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pygame"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert main(["watch", str(run.path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: drawing FrozenLake-v1 needs the module 'pygame', which is not installed: pip install"
    )


def test_a_large_film_is_not_kept_in_the_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a film.gif"
    path.write_bytes(b"GIF8" + bytes(2 * video.INLINE))
    html = Film(path, [1.0])._repr_html_()
    assert len(html) < 300
    assert '<img src="a%20film.gif">' in html
    assert "2.0 MB" in html
    path.write_bytes(b"GIF8" + bytes(video.INLINE // 2))
    html = Film(path, [1.0])._repr_html_()
    assert html.startswith('<img src="data:image/gif;base64,R0lGOAAAAA')
    assert len(html) < video.INLINE
    assert repr(Film(path, [1.0])) == "a film.gif (return 1.0)"
