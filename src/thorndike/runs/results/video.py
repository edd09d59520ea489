"""Films of an agent at work, or of what it sees: GIF by Pillow, MP4 where ffmpeg is to be had."""

from __future__ import annotations

import colorsys
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.configuration import require
from thorndike.drivers.evaluate import APART, act, check_episodes, watched
from thorndike.envs.batched import Batched, is_jax
from thorndike.envs.host.guard import guarded, starts_within
from thorndike.errors import ConfigError, MissingExtraError
from thorndike.nets.cnn import channels_first
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent

FPS = 30


class Film:
    """A file with a moving picture; notebooks show it.

    `returns` are those of its whole episodes; `cut` says where it stopped in the midst of one.
    """

    def __init__(self, path: Path, returns: list[float], cut: str = ""):
        self.path, self.returns, self.cut = path, returns, cut

    def _repr_html_(self) -> str:
        import base64

        data = base64.b64encode(self.path.read_bytes()).decode()
        if self.path.suffix == ".mp4":
            return f'<video controls src="data:video/mp4;base64,{data}"></video>'
        return f'<img src="data:image/gif;base64,{data}">'

    def __repr__(self) -> str:
        whole = f"return {', '.join(f'{x:.1f}' for x in self.returns)}" if self.returns else "no episode ended"
        return f"{self.path} ({whole}{self.cut and '; '}{self.cut})"


def film(
    agent: Agent, env: Any, out: Path, episodes: int = 1, most_frames: int = 1500, seed: int = 0, timeout: float = 60.0
) -> Film:
    """Film the greedy agent to `out` (.gif or .mp4): whole episodes, but `most_frames` in all; what it sees, if the
    environment draws nothing.

    `timeout`: seconds that an environment on the host may take for a step; for a picture, a minute at least.

    Raises:
        ConfigError: another suffix, or an environment that neither draws nor shows images.
        MissingExtraError: .mp4 without ffmpeg.
        EnvError: where an environment fails, or shows or gives what is not finite, or is outside of its space.
    """
    if out.suffix not in (".gif", ".mp4"):
        raise ConfigError(f"films are .gif or .mp4, not {out.name!r}")
    check_episodes(episodes)
    require(most_frames > 0, f"frames must be positive, got {most_frames}")
    encoder, env = ffmpeg() if out.suffix == ".mp4" else None, getattr(env, "evaluation", env)
    if not filmable(env):
        name = getattr(env, "id", type(env).__name__)
        why = "it draws no frames, and its observations are no images"
        why = f"what its {env.agents} agents do is not drawn" if getattr(env, "agents", 1) > 1 else why
        raise ConfigError(f"{name} cannot be filmed: {why}")
    record = _film_jax if is_jax(env) else partial(_film_host if draws(env) else _film_rows, timeout=timeout)
    with starts_within(timeout):
        frames, returns, cut, fps = record(agent, env, episodes, most_frames, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    if encoder is None:
        _write_gif(out, frames, fps)
    else:
        _write_mp4(encoder, out, frames, fps)
    return Film(out, returns, cut)


def draws(env: Any) -> bool:
    """Whether the environment draws itself."""
    return hasattr(env, "render") if is_jax(env) else getattr(env, "draws", True)


def filmable(env: Any) -> bool:
    """Whether `film` can: the environment draws itself, or shows one agent images."""
    return draws(env) or (len(env.observation_space.shape or ()) == 3 and getattr(env, "agents", 1) == 1)


def seen(obs: np.ndarray) -> np.ndarray:
    """An image observation as a frame [H, W, 3]: RGB, or the newest of grey ones; other planes in a colour each."""
    if obs.dtype == np.uint8:
        obs = np.moveaxis(obs, 0, -1) if channels_first(obs.shape) else obs
        frame = obs if obs.shape[-1] == 3 else np.repeat(obs[..., -1:], 3, -1)
    else:
        planes = np.clip(np.asarray(obs, np.float32), 0, 1)[..., None]
        hues = np.array([colorsys.hsv_to_rgb(i / planes.shape[-2], 0.7, 1.0) for i in range(planes.shape[-2])])
        frame = (255 * (planes * hues).max(-2)).astype(np.uint8)
    scale = max(1, round(320 / frame.shape[0]))
    return frame.repeat(scale, 0).repeat(scale, 1)


def _film_jax(agent: Agent, env: Any, episodes: int, most: int, seed: int):
    world, key = Batched(env, 1), random_key(seed)
    one = jax.jit(lambda sim: jax.tree.map(lambda x: x[0], sim))
    draw = (lambda now: env.render(jax.device_get(one(now.sim.state)))) if draws(env) else _seen_row
    played = _play(agent, jax.jit(world.reset)(key), watched(world), draw, episodes, most, key)
    return *played, FPS if draws(env) else FPS // 2


def _film_rows(agent: Agent, env: Any, episodes: int, most: int, seed: int, timeout: float):
    with env.batch(1, seed=seed + APART, timeout=timeout) as batch:
        step = lambda now, action, key: batch.step(np.asarray(action))  # noqa: E731
        return (*_play(agent, batch.reset(), step, _seen_row, episodes, most, random_key(seed)), FPS // 2)


def _seen_row(now: Any) -> np.ndarray:
    return seen(np.asarray(now.obs[0]))


def _play(agent: Agent, now: Any, step: Any, draw: Any, episodes: int, most: int, key: Any):
    """Frames of the first `episodes` episodes, `most` in all, returns of those that ended, and where it was cut."""
    frames: list[np.ndarray] = []
    returns: list[float] = []
    total = 0.0
    carry = agent.algorithm.carry(agent.actor, 1)
    while len(returns) < episodes and len(frames) < most:
        with guarded("a frame could not be drawn"):
            frames.append(draw(now))
        key, akey, skey = jax.random.split(key, 3)
        action, carry = act(agent.algorithm, agent.actor, carry, now, akey, False)
        now = step(now, action, skey)
        total += float(now.reward[0])
        if bool(now.first[0]):
            returns.append(total)
            total = 0.0
    so_far = f"stopped after {most:,} frames, with {total:.1f} so far"
    return frames, returns, so_far if len(returns) < episodes else ""


def _film_host(agent: Agent, env: Any, episodes: int, most: int, seed: int, timeout: float):
    batch, world = env.drawing(seed + APART, timeout)

    def draw(now):
        frame = world.render()
        if not isinstance(frame, np.ndarray):
            raise ConfigError(f"{env.id} draws no frames (render_mode='rgb_array')")
        return frame

    with batch:
        step = lambda now, action, key: batch.step(np.asarray(action))  # noqa: E731
        played = _play(agent, batch.reset(), step, draw, episodes, most, random_key(seed))
    return *played, max(1, int(world.metadata.get("render_fps") or FPS))


def _write_gif(out: Path, frames: list[np.ndarray], fps: int) -> None:
    from PIL import Image

    keep = max(1, round(fps / 25))  # viewers slow down beyond 50 frames a second
    pictures = [
        Image.fromarray(frame).quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        for frame in frames[::keep]
    ]
    pictures[0].save(
        out, save_all=True, append_images=pictures[1:], duration=round(1000 * keep / fps), loop=0, optimize=False
    )


def _write_mp4(encoder: str, out: Path, frames: list[np.ndarray], fps: int) -> None:
    height, width = (size // 2 * 2 for size in frames[0].shape[:2])
    command = [encoder, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(fps), "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p", str(out)]
    data = b"".join(np.ascontiguousarray(frame[:height, :width]).tobytes() for frame in frames)
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
