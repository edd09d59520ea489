"""Films of an agent at work, or of what it sees: GIF by Pillow, MP4 where ffmpeg is to be had."""

from __future__ import annotations

import html
import math
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import gymnasium
import jax
import numpy as np
from gymnasium.error import DependencyNotInstalled

from thorndike.configuration import require
from thorndike.drivers.evaluate import APART, act, check_episodes, watched
from thorndike.envs.batched import Batched, is_jax, to_environment
from thorndike.envs.host.guard import guarded, starts_within
from thorndike.errors import ConfigError, MissingExtraError
from thorndike.extras import missing
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.frames import fit, frame_of, seen
from thorndike.text import near

FPS = 30.0  # of an environment that does not say its own
MOVES = 2.0  # frames a second of a game of two players
SHORTEST = 2.0  # seconds of a film: the last frame of one with fewer frames is held
INLINE = 1_000_000  # characters of a film within a notebook; of a longer one there is a link


class Film:
    """A file with a moving picture; notebooks show it.

    `returns` are those of its whole episodes; `cut` says where it stopped in the midst of one. A film of something else
    than episodes is `about` that.
    """

    def __init__(self, path: Path, returns: list[float], cut: str = "", about: str = ""):
        self.path, self.returns, self.cut, self.about = path, returns, cut, about

    def _repr_html_(self) -> str:
        import base64

        kind = "video/mp4" if self.path.suffix == ".mp4" else "image/gif"
        size, note = self.path.stat().st_size, ""
        if 4 * size / 3 <= INLINE:
            source = f"data:{kind};base64,{base64.b64encode(self.path.read_bytes()).decode()}"
        else:
            source = quote(Path(os.path.relpath(self.path)).as_posix())
            name = html.escape(near(self.path))
            note = f'<br><a href="{source}">{name}</a>, {size / 1e6:.1f} MB: too large to be kept in the notebook'
        show = f'<video controls src="{source}"></video>' if kind == "video/mp4" else f'<img src="{source}">'
        return show + note

    def __repr__(self) -> str:
        whole = f"return {', '.join(f'{x:.1f}' for x in self.returns)}" if self.returns else "no episode ended"
        return f"{near(self.path)} ({self.about or whole}{self.cut and '; '}{self.cut})"


def film(
    agent: Agent,
    env: Any,
    out: Path,
    episodes: int = 1,
    most_frames: int = 1500,
    seed: int = 0,
    timeout: float = 60.0,
    explore: bool = False,
) -> Film:
    """Film the agent to `out` (.gif or .mp4): whole episodes, but `most_frames` in all; what it sees, if the
    environment draws nothing.

    Args:
        agent: who acts, greedily, or with `explore` as in training.
        env: where; one that says `render_fps`, as an attribute or in its metadata, is shown at that rate.
        out: the file.
        episodes: how many.
        most_frames: where the film stops, also in the midst of an episode.
        seed: of the environment.
        timeout: seconds that an environment on the host may take for a step; for a picture, a minute at least.
        explore: act as in training.

    Raises:
        ConfigError: another suffix, an environment that neither draws nor shows images, or what it draws is no picture.
        MissingExtraError: .mp4 without ffmpeg, or the environment draws with a package that is not installed.
        EnvError: where an environment fails, or shows or gives what is not finite, or is outside of its space.
    """
    if out.suffix not in (".gif", ".mp4"):
        raise ConfigError(f"films are .gif or .mp4, not {out.name!r}")
    encoder = ffmpeg() if out.suffix == ".mp4" else None
    found = footage(agent, env, episodes, most_frames, seed, timeout, explore)
    write(out, found.frames, found.fps, encoder)
    return Film(out, found.returns, found.cut)


def write(out: Path, frames: list[np.ndarray], fps: float, encoder: str | None = None) -> None:
    """Write frames uint8 [H, W, 3] as a GIF, or as an MP4 where there is an encoder; at least two seconds."""
    frames = frames + [frames[-1]] * (math.ceil(SHORTEST * fps) - len(frames))
    out.parent.mkdir(parents=True, exist_ok=True)
    if encoder is None:
        _write_gif(out, frames, fps)
    else:
        _write_mp4(encoder, out, frames, fps)


class Footage(NamedTuple):
    """What was filmed."""

    frames: list[np.ndarray]  # uint8 [H, W, 3] each, of one size
    returns: list[float]  # of whole episodes
    cut: str  # where it stopped in the midst of one, else ""
    fps: float


def footage(
    agent: Agent,
    env: Any,
    episodes: int = 1,
    most_frames: int = 1500,
    seed: int = 0,
    timeout: float = 60.0,
    explore: bool = False,
) -> Footage:
    """Play and draw, and write nothing; arguments and errors as of `film`."""
    check_episodes(episodes)
    require(most_frames > 0, f"frames must be positive, got {most_frames}")
    env = getattr(env, "evaluation", env)
    if not filmable(env):
        name = getattr(env, "id", type(env).__name__)
        why = "it draws no frames, and its observations are no images"
        why = f"what its {env.agents} agents do is not drawn" if getattr(env, "agents", 1) > 1 else why
        raise ConfigError(f"{name} cannot be filmed: {why}")
    play = partial(_play, agent, getattr(env, "id", type(env).__name__), explore, episodes, most_frames)
    shoot = _film_jax if is_jax(env) else partial(_film_host if draws(env) else _film_rows, timeout=timeout)
    with starts_within(timeout):
        (frames, returns, cut), fps = shoot(play, agent, env, seed)
    return Footage(frames, returns, cut, fps)


def draws(env: Any) -> bool:
    """Whether the environment draws itself."""
    return hasattr(env, "render") if is_jax(env) else getattr(env, "draws", True)


def filmable(env: Any) -> bool:
    """Whether `film` can: the environment draws itself, or shows one agent images."""
    return draws(env) or (len(env.observation_space.shape or ()) == 3 and getattr(env, "agents", 1) == 1)


def frame_rate(env: Any, default: float) -> float:
    """Frames a second: the `render_fps` of the environment or of one inside it, an attribute or in its metadata."""
    while env is not None:
        metadata = getattr(env, "metadata", None)
        said = getattr(env, "render_fps", None) or (metadata.get("render_fps") if isinstance(metadata, dict) else None)
        if isinstance(said, (int, float)) and 0 < said < math.inf:
            return float(said)
        env = getattr(env, "env", None)
    return default


def _film_jax(play: Callable[..., Any], agent: Agent, env: Any, seed: int) -> Any:
    world, key = Batched(env, 1), random_key(seed)
    if not draws(env):
        played = play(jax.jit(world.reset)(key), watched(world), _seen, _seen_last, key)
        return played, frame_rate(env, MOVES if getattr(env, "players", 1) > 1 else FPS / 2)
    one = jax.jit(lambda sim: jax.tree.map(lambda x: x[0], sim))

    @jax.jit
    def ended(now, action, key):
        """The state that ended an episode, which the batch has replaced: its step once more, with the same key."""
        key = jax.random.split(jax.random.split(key)[0], 1)[0]
        return env.step(one(now.sim.state), to_environment(env.action_space, action)[0], key).state

    draw = lambda now: env.render(jax.device_get(one(now.sim.state)))  # noqa: E731
    last = lambda now, action, key, later: env.render(jax.device_get(ended(now, action, key)))  # noqa: E731
    return play(jax.jit(world.reset)(key), watched(world), draw, last, key), frame_rate(env, FPS)


def _film_rows(play: Callable[..., Any], agent: Agent, env: Any, seed: int, timeout: float) -> Any:
    with env.batch(1, seed=seed + APART, timeout=timeout) as batch:
        step = lambda now, action, key: batch.step(np.asarray(action))  # noqa: E731
        return play(batch.reset(), step, _seen, _seen_last, random_key(seed)), frame_rate(env, FPS / 2)


def _film_host(play: Callable[..., Any], agent: Agent, env: Any, seed: int, timeout: float) -> Any:
    batch, world = env.drawing(seed + APART, timeout, Drawing)
    with batch:
        step = lambda now, action, key: batch.step(np.asarray(action))  # noqa: E731
        draw, last = (lambda now: world.draw()), (lambda *scene: world.ending)
        return play(batch.reset(), step, draw, last, random_key(seed)), frame_rate(world, FPS)


class Drawing(gymnasium.Wrapper):
    """Draws how an episode ends at once: the batch resets the environment before anybody can look."""

    ending: np.ndarray | None = None

    def step(self, action: Any) -> Any:
        """The environment's step."""
        answer = self.env.step(action)
        if isinstance(answer, tuple) and len(answer) == 5 and np.any(answer[2:4]):
            self.ending = self.draw()
        return answer

    def draw(self) -> np.ndarray:
        """A frame; raises `MissingExtraError` where a package that it takes is not installed."""
        name = self.env.spec.id if self.env.spec is not None else type(self.env.unwrapped).__name__
        try:
            return frame_of(self.env.render(), name)
        except (DependencyNotInstalled, ModuleNotFoundError) as error:
            raise missing(f"drawing {name}", error) from error


def _seen(now: Any) -> np.ndarray:
    return seen(np.asarray(now.obs[0]))


def _seen_last(now: Any, action: Any, key: Any, later: Any) -> np.ndarray:
    return seen(np.asarray(later.final_obs[0]))


def _play(
    agent: Agent,
    name: str,
    explore: bool,
    episodes: int,
    most: int,
    now: Any,
    step: Any,
    draw: Any,
    last: Any,
    key: Any,
) -> tuple[list[np.ndarray], list[float], str]:
    """Frames of the first `episodes` episodes, `most` in all, returns of those that ended, and where it was cut.

    `draw(now)` draws what is to be seen before a step, `last(now, action, key, later)` how that step ended an episode.
    """
    frames: list[np.ndarray] = []
    returns: list[float] = []
    total = 0.0
    carry = agent.algorithm.carry(agent.actor, 1)

    def shoot(draw: Any, *scene: Any) -> None:
        with guarded("a frame could not be drawn"):
            frame = frame_of(draw(*scene), name)
        frames.append(fit(frame, frames[0] if frames else frame))

    while len(returns) < episodes and len(frames) < most:
        shoot(draw, now)
        key, akey, skey = jax.random.split(key, 3)
        action, carry = act(agent.algorithm, agent.actor, carry, now, akey, explore)
        later = step(now, action, skey)
        total += float(later.reward[0])
        if bool(later.first[0]):
            if len(frames) < most:
                shoot(last, now, action, skey, later)
            returns.append(total)
            total = 0.0
        now = later
    so_far = f"stopped after {most:,} frames, with {total:.1f} so far"
    return frames, returns, so_far if len(returns) < episodes else ""


def _write_gif(out: Path, frames: list[np.ndarray], fps: float) -> None:
    from PIL import Image

    keep = max(1, round(fps / 25))  # viewers slow down beyond 50 frames a second
    pictures = [
        Image.fromarray(frame).quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        for frame in frames[::-keep][::-1]  # how it ends is kept
    ]
    pictures[0].save(
        out, save_all=True, append_images=pictures[1:], duration=round(1000 * keep / fps), loop=0, optimize=False
    )


def _write_mp4(encoder: str, out: Path, frames: list[np.ndarray], fps: float) -> None:
    height, width = (size + size % 2 for size in frames[0].shape[:2])  # even, as H.264 wants them
    command = [encoder, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", f"{fps:g}", "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p", str(out)]
    border = [(0, height - frames[0].shape[0]), (0, width - frames[0].shape[1]), (0, 0)]
    data = b"".join(np.pad(frame, border, "edge").tobytes() for frame in frames)
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        raise ConfigError(f"ffmpeg could not write {out}: {done.stderr.decode()[-300:]}")


def ffmpeg() -> str:
    """The encoder's path; raises `MissingExtraError`."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ModuleNotFoundError, RuntimeError):
        found = shutil.which("ffmpeg")
    if found is None:
        raise MissingExtraError('films as .mp4 need ffmpeg: pip install "thorndike[video]" (a .gif needs nothing)')
    return found
