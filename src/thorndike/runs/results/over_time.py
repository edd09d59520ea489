"""Films of what was learned, a frame for each checkpoint: tables on a grid, and surfaces of values and actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.errors import ConfigError, require
from thorndike.figures import Figure, drawn
from thorndike.runs.results.beside import untrained
from thorndike.runs.results.surface import draw, looked_at, plane_of
from thorndike.runs.results.video import Film, ffmpeg, write
from thorndike.runs.storage import checkpoint

MOST = 60  # checkpoints that are shown, evenly apart
FPS = 4.0
COLOURS = 64  # that a GIF's frame has here
LAST = 2.0  # seconds for which the last one is held


def film(run: Any, out: Path, over: tuple[int, int] | None = None, seed: int | None = None) -> Film:
    """Film what `Run.picture` draws, from the untrained agent over all checkpoints that were kept.

    All frames have the same colours for the same values. A surface is over the same plane in all of them, through what
    the newest agent sees.

    Args:
        run: the run.
        out: the file, .gif or .mp4.
        over: which two numbers of a vector of observations; None for a table on a grid.
        seed: whose agent.

    Raises:
        ConfigError: there is no such picture, fewer than two checkpoints, or another suffix.
        MissingExtraError: .mp4 without ffmpeg.
    """
    require(out.suffix in (".gif", ".mp4"), f"films are .gif or .mp4, not {out.name!r}")
    encoder = ffmpeg() if out.suffix == ".mp4" else None
    kept = [step for step in checkpoint.steps(run.path / "checkpoints") if step]
    require(
        len(kept) > 1,
        f"a film is over checkpoints, and {run.path.name} kept {len(kept)}: train with checkpoint_steps=... "
        "(--checkpoint-steps), which keeps one every so many steps",
    )
    at = [kept[i] for i in np.unique(np.linspace(0, len(kept) - 1, MOST).astype(int))]
    first, name = untrained(run, seed)
    agents = [first, *(run.agent(seed, step=step) for step in at)]
    figures = _tables(run, agents) if over is None else _surfaces(run, agents, over)
    titles = [name, *(f"{step:,} steps" for step in at)]
    frames = [_frame(figure, title) for figure, title in zip(figures, titles, strict=True)]
    frames = frames if encoder else _of_one_palette(frames)
    frames += [frames[-1]] * round(LAST * FPS)
    write(out, frames, FPS, encoder)
    return Film(out, [], about=f"{len(titles)} agents, {name} to {titles[-1]}")


def _frame(figure: Figure, title: str) -> np.ndarray:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    frame = drawn(figure)
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]


def _of_one_palette(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Frames in the colours of one palette: where each has its own, as GIFs do, what stays would flicker."""
    from PIL import Image

    few = frames[:: max(1, len(frames) // 8)]
    palette = Image.fromarray(np.concatenate([*few, frames[-1]])).quantize(COLOURS, Image.Quantize.MEDIANCUT)
    none = Image.Dither.NONE
    return [np.asarray(Image.fromarray(x).quantize(palette=palette, dither=none).convert("RGB")) for x in frames]


def _tables(run: Any, agents: list[Any]) -> list[Figure]:
    tables = [getattr(agent.actor, "q", None) for agent in agents]
    if not all(isinstance(q, jax.Array) for q in tables) or not hasattr(run.env, "picture"):
        raise ConfigError(
            "a film of values needs a tabular algorithm on a grid, such as td.GridWorld(); of an agent that sees a "
            "vector say over which two of its numbers, over=(0, 1), or --over 0 1"
        )
    values = [np.asarray(q).max(1) for q in tables]
    limits = float(np.min(values)), float(np.max(values))
    return [run.env.picture(np.asarray(q), limits=limits) for q in tables]


def _surfaces(run: Any, agents: list[Any], over: tuple[int, int]) -> list[Figure]:
    plane = plane_of(run, agents[-1], over)
    found = [looked_at(plane, agent) for agent in agents]
    limits = [(float(np.min(x)), float(np.max(x))) for x in zip(*found)]
    return [draw(plane, *pair, run.spec, limits) for pair in found]
