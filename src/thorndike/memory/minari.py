"""Datasets of Minari's: one HDF5 file, read whole (images too), from itself alone and no more than can be in it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thorndike.envs.masks import KEY
from thorndike.errors import ConfigError, MissingExtraError
from thorndike.memory.dataset import STEPS, Stored

JPEG = (0xFF, 0xD8, 0xFF)  # how such a file begins
BOMB = Image.DecompressionBombError


def read_minari(path: Path) -> Stored:
    """The episodes in the file at `path`; raises `ConfigError` where there are none, or it is damaged."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError('Minari\'s files need one more package: pip install "thorndike[minari]"') from None

    def inside(group: Any, name: str) -> Any:
        if isinstance(group.get(name, getlink=True), (h5py.ExternalLink, h5py.SoftLink)):  # Minari writes none
            raise ValueError(f"{group.name}/{name} is only a link, which may lead to another file")
        return group[name]

    seen = set()  # groups, by where they are in the file

    def leaves(node: Any, but: str | None = None) -> list[Any]:
        """The arrays below `node`, those of each name in order (Dict), `but` one, or numbered (Tuple)."""
        if not hasattr(node, "keys"):
            return [node]
        if (place := h5py.h5o.get_info(node.id).addr) in seen:  # few of them may stand for very many
            raise ValueError(f"{node.name} is a group that is there already, under another name")
        seen.add(place)
        numbered = all(name.startswith("_index_") for name in node)
        names = sorted(node, key=(lambda name: int(name.removeprefix("_index_"))) if numbered else None)
        return [leaf for name in names if name != but for leaf in leaves(inside(node, name))]

    def masks(group: Any) -> list[Any]:
        """Which actions were legal, as Gymnasium's `info` says it, where that was recorded."""
        for name in ("infos", KEY):
            if group.get(name, getlink=True) is None:
                return []
            group = inside(group, name)
        return leaves(group)

    def encoded(node: Any) -> bool:
        """Whether its rows are JPEG files, as Minari keeps images from 32 x 32 on."""
        rows = node.dtype == np.uint8 and node.ndim == 2 and node.size > 0
        return h5py.check_vlen_dtype(node.dtype) == np.uint8 or (rows and bool((node[:, :3] == JPEG).all()))

    pixels = 256 * path.stat().st_size + 2**24  # as many as may be in it

    def images(node: Any) -> np.ndarray:
        nonlocal pixels
        found = []
        for i in range(len(node)):
            image = Image.open(io.BytesIO(node[i].tobytes()), formats=["JPEG"])
            pixels -= image.width * image.height * len(image.getbands())
            if pixels < 0:
                raise ValueError(f"{node.name} has larger images than can be in the file")
            found.append(np.asarray(image))
        return np.stack(found)

    try:
        with h5py.File(path, "r") as file:
            episodes = []
            for i in range(len(file)):
                group = inside(file, f"episode_{i}")
                if hasattr(inside(group, "actions"), "keys"):
                    raise ConfigError(f"{path} has actions of several parts: only single arrays are supported")
                columns = [inside(group, name) for name in STEPS]
                shown, told = inside(group, "observations"), masks(group)
                if not told and hasattr(shown, "keys") and KEY in shown and columns[0].dtype.kind in "iu":
                    told = leaves(inside(shown, KEY))
                    episodes.append((leaves(shown, KEY if len(shown) > 1 else None), columns, told))
                else:
                    episodes.append((leaves(shown), columns, told))
            if not episodes:
                raise ConfigError(f"{path} has no episodes")
            room = 16 * path.stat().st_size + 2**26  # bytes; more than such a file can hold is not in it
            for node in (node for parts in episodes for part in parts for node in part):  # before any is read
                room -= node.size * node.dtype.itemsize
                if node.dtype.kind not in "biuf" and not encoded(node):
                    raise ValueError(f"{node.name} holds {node.dtype}, not numbers")
                if node.external or node.is_virtual:
                    raise ValueError(f"{node.name} is in another file")
                if room < 0:
                    raise ValueError(f"{node.name} is larger than the file")
            lengths = [len(rewards) for _, (_, rewards, *_), _ in episodes]
            parts = (
                [[images(node) if encoded(node) else node[()] for node in part] for part in side]
                for side in zip(*episodes)
            )
            observations, columns, legal = ([np.concatenate(x) for x in zip(*side, strict=True)] for side in parts)
        return Stored(observations, columns, np.concatenate(legal, -1) if legal else None, np.asarray(lengths))
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError, BOMB) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is not a dataset of Minari's, or damaged: {error}") from None
