"""Datasets of Minari's: one HDF5 file, read whole, images too."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.envs.masks import KEY
from thorndike.errors import ConfigError
from thorndike.extras import importing
from thorndike.memory.episodes import STEPS, Stored

JPEG = (0xFF, 0xD8, 0xFF)  # how such a file begins


def read_minari(path: Path) -> Stored:
    """The episodes in the file at `path`; raises `ConfigError` where there are none, or it is damaged."""
    with importing("h5py", "a dataset of Minari's"):
        import h5py
    try:
        with h5py.File(path, "r") as file:
            episodes = [_fitting(_episode(file[f"episode_{i}"]), f"{path}: episode {i}") for i in range(len(file))]
        if not episodes:
            raise ConfigError(f"{path} has no episodes")
        observations, columns, masks = ([np.concatenate(x) for x in zip(*side, strict=True)] for side in zip(*episodes))
        lengths = np.asarray([len(rewards) for _, (_, rewards, *_), _ in episodes])
        return Stored(observations, columns, np.concatenate(masks, -1) if masks else None, lengths)
    except ConfigError:
        raise
    except Exception as error:  # whatever HDF5 and Pillow make of what is no such file
        raise ConfigError(f"{path} is not a dataset of Minari's, or damaged: {error}") from None


def _fitting(episode: Any, which: str) -> Any:
    """The episode, if its arrays are as long as its number of rewards asks for; raises `ConfigError`."""
    observations, columns, masks = episode
    steps = len(columns[1])
    found = [(what, x, steps + 1) for what, parts in (("observations", observations), (KEY, masks)) for x in parts]
    for what, x, rows in [*found, *((name, x, steps) for name, x in zip(STEPS, columns))]:
        if len(x) != rows:
            raise ConfigError(
                f"{which} has {len(x)} {what} and {steps} rewards, one for each step: it should have {rows}. To leave "
                "it out, write the others with td.Dataset.write"
            )
    return episode


def _episode(group: Any) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Parts of the observations, `STEPS`, and parts of the masks, where they were recorded."""
    if hasattr(group["actions"], "keys"):
        raise ConfigError(f"{group.file.filename} has actions of several parts: only single arrays are supported")
    shown, steps = group["observations"], [_array(group[name]) for name in STEPS]
    if f"infos/{KEY}" in group:
        return _parts(shown), steps, _parts(group[f"infos/{KEY}"])
    if hasattr(shown, "keys") and KEY in shown and steps[0].dtype.kind in "iu":
        return _parts(shown, but=KEY if len(shown) > 1 else None), steps, _parts(shown[KEY])
    return _parts(shown), steps, []


def _parts(node: Any, but: str | None = None) -> list[np.ndarray]:
    """The arrays at or below `node`, those of each name in order (Dict), `but` one, or numbered (Tuple)."""
    if not hasattr(node, "keys"):
        return [_array(node)]
    numbered = all(name.startswith("_index_") for name in node)
    names = sorted(node, key=(lambda name: int(name.removeprefix("_index_"))) if numbered else None)
    return [part for name in names if name != but for part in _parts(node[name])]


def _array(node: Any) -> np.ndarray:
    """The array that HDF5 holds at `node`; images from 32 x 32 on, which Minari keeps as JPEG files, are decoded."""
    import h5py
    from PIL import Image

    rows = node.dtype == np.uint8 and node.ndim == 2 and node.size > 0
    encoded = h5py.check_vlen_dtype(node.dtype) == np.uint8 or (rows and (node[:, :3] == JPEG).all())
    if not encoded:
        return node[()]
    return np.stack([np.asarray(Image.open(io.BytesIO(row.tobytes()), formats=["JPEG"])) for row in node])
