"""A film of an agent as training began beside the agent that came of it, small enough to be part of a page."""

from __future__ import annotations

import base64
import io
from typing import Any

import jax

from thorndike.drivers.scan import member
from thorndike.ops.keys import random_key
from thorndike.pages import Html, html
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.video import Footage, footage
from thorndike.runs.storage import checkpoint
from thorndike.text import score

FRAMES = 300  # of each film
RATE = 15.0  # frames a second that are kept
WIDTH = 240  # pixels
BYTES = 1_000_000  # that both films may have together, before they are made smaller


def untrained(run: Any, seed: int | None = None) -> tuple[Agent, str]:
    """The agent that training began with, and what it is: of the checkpoint at step 0 where there is one, as of a run
    that started from another, else drawn from the run's seed as training did."""
    if 0 in checkpoint.steps(run.path / "checkpoints"):
        return run.agent(seed, step=0), "as it started"
    seed = run.seed if seed is None else seed
    algorithm, spec = member(run.settled(0), seed - run.seed), run.spec

    @jax.jit
    def fresh(key: Any) -> Any:
        return algorithm.actor(algorithm.init(jax.random.split(key, 3)[0], spec))

    return Agent(algorithm, spec, fresh(random_key(seed))), "untrained"


def beside(run: Any, seed: int | None = None, most_frames: int = FRAMES) -> Html:
    """Both films, as a part of a page.

    Args:
        run: the run.
        seed: whose agent; by default the first that has not diverged.
        most_frames: of each.

    Raises:
        ConfigError: the environment draws nothing.
        DivergedError: the agent of that seed has diverged.
    """
    before, name = untrained(run, seed)
    after, env = run.agent(seed), member(run.env, 0)
    games = run.spec.players > 1
    shots = [footage(agent, env, 1, most_frames, timeout=run.info["env_timeout"]) for agent in (before, after)]
    names = [name, f"after {run.status['steps']:,} steps"]
    longest = max(len(shot.frames) for shot in shots)
    parts = []
    for shot, name in zip(shots, names, strict=True):
        parts.append(_figure(_fitting(shot, longest, BYTES // 2), _words(name, shot, games)))
    return Html("".join(parts))


def _words(name: str, shot: Footage, game: bool) -> str:
    if shot.cut:
        return f"{name}, the first {len(shot.frames)} frames"
    return name if game else f"{name}, return {score(shot.returns[0])}"


def _figure(film: tuple[bytes, bytes], words: str) -> Html:
    """A film in a page, which stands still for readers who ask for less motion."""
    moving, still = (f"data:image/webp;base64,{base64.b64encode(data).decode()}" for data in film)
    source = f'<source media="(prefers-reduced-motion: reduce)" srcset="{still}">'
    image = f'<img width="{WIDTH}" alt="{html(words)}" src="{moving}">'
    return Html(f"<figure><picture>{source}{image}</picture><figcaption>{html(words)}</figcaption></figure>")


def _fitting(shot: Footage, longest: int, most: int) -> tuple[bytes, bytes]:
    """The film, and its last frame, as WebP; smaller, and then with fewer frames, until it has at most `most` bytes."""
    width, rate = WIDTH, RATE
    while True:
        film = _webp(shot, longest, width, rate)
        if len(film[0]) <= most or width < 100:
            return film
        width, rate = round(0.8 * width), 0.75 * rate


def _webp(shot: Footage, longest: int, width: int, rate: float) -> tuple[bytes, bytes]:
    """The film takes as long as one of `longest` frames: its last frame is held, so that two films stay together."""
    from PIL import Image

    keep = max(1, round(shot.fps / rate))
    frames = shot.frames[::-keep][::-1]  # how it ends is kept
    height = max(1, round(width * frames[0].shape[0] / frames[0].shape[1]))
    pictures = [Image.fromarray(frame).resize((width, height), Image.Resampling.BOX) for frame in frames]
    each = round(1000 * keep / shot.fps)
    held = round(1000 * (longest - len(shot.frames)) / shot.fps) + 1000
    moving, still = io.BytesIO(), io.BytesIO()
    times = [each] * (len(pictures) - 1) + [each + held]
    options = {"quality": 60, "method": 2}
    pictures[0].save(moving, "WEBP", save_all=True, append_images=pictures[1:], duration=times, loop=0, **options)
    pictures[-1].save(still, "WEBP", **options)
    return moving.getvalue(), still.getvalue()
