"""Frames of films: whatever an environment draws, or shows, as uint8 [H, W, 3]."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np

from thorndike.errors import ConfigError, require
from thorndike.nets.cnn import channels_first

SLACK = 1.01  # floats up to here are taken for 0 to 1, which interpolation leaves by a little


def frame_of(drawn: Any, name: str) -> np.ndarray:
    """A frame uint8 [H, W, 3] of its own memory, from what an environment drew.

    Taken are arrays [H, W, 3], [H, W, 4] without their alpha, grey [H, W] and [H, W, 1], any of them with the channels
    first, Pillow's images, and of a list of frames the last. Bools are 0 and 255; floats up to 1 are multiplied by 255;
    other floats and integers are taken as they are where all are within 0 and 255.

    Args:
        drawn: what `render` returned.
        name: of the environment, for messages.

    Raises:
        ConfigError: it is no picture; names its type, or its dtype, shape and range.
    """
    if isinstance(drawn, (list, tuple)) and drawn and (hasattr(drawn[-1], "shape") or hasattr(drawn[-1], "convert")):
        drawn = drawn[-1]
    if hasattr(drawn, "convert"):  # Pillow's
        drawn = drawn.convert("RGB")
    if drawn is None or isinstance(drawn, (str, bytes, dict)):
        raise ConfigError(f"{name} draws no frames: render() returned {repr(drawn)[:60]} (render_mode='rgb_array')")
    try:
        x = np.asarray(drawn)
    except ValueError:  # a ragged list
        x = np.asarray(None)
    what = f"{name} draws frames of {x.dtype} {list(x.shape)}"
    x = _channels_last(x)
    picture = x.ndim == 3 and x.shape[2] in (1, 3, 4) and x.size > 0 and x.dtype.kind in "buif"
    require(picture, f"{what}, which is no picture: return uint8 [height, width, 3]")
    x = x[..., :3] if x.shape[2] > 1 else x.repeat(3, 2)
    if x.dtype == np.uint8:
        return x.copy()
    if x.dtype == np.bool_:
        return x * np.uint8(255)
    low, high = x.min(), x.max()
    within = bool(low >= 0) and bool(high <= 255)  # False for NaNs
    require(within, f"{what} from {low:g} to {high:g}: return uint8, floats from 0 to 1, or numbers from 0 to 255")
    if x.dtype.kind == "f":
        x = np.rint(np.minimum(x, 1) * 255 if high <= SLACK else x)
    return x.astype(np.uint8)


def _channels_last(x: np.ndarray) -> np.ndarray:
    """[H, W, C], where it was [H, W] or [C, H, W]."""
    if x.ndim == 2:
        return x[..., None]
    if x.ndim == 3 and x.shape[0] in (1, 3, 4) and x.shape[2] > 4:
        return np.moveaxis(x, 0, -1)
    return x


def fit(frame: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The frame, scaled to the size of `like`."""
    if frame.shape == like.shape:
        return frame
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize(like.shape[1::-1]))


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
