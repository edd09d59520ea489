"""Datasets of recorded episodes: a folder of .npy files, mapped into memory rather than read.

The names are Minari's: `observations` (of each episode one more than its steps), `actions`, `rewards`, `terminations`,
`truncations`, and where not all actions are legal `masks`; one episode after the other, their lengths in
`metadata.json`. Folders of Minari's own are read by `minari.py`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from thorndike.configuration import require
from thorndike.envs.masks import choosable, flat_mask, mask_sizes
from thorndike.errors import CheckpointError, ConfigError
from thorndike.files import LARGEST_JSON, check_regular, read_json
from thorndike.files import write as put
from thorndike.memory.episodes import STEPS, Episode, Stored, checked, part_names
from thorndike.memory.minari import read_minari
from thorndike.nets.torso import example
from thorndike.types import Spec, Transition

FORMAT = 1
HASHED = 2**26  # bytes of an array that a digest reads at most
ROWS = 2**12  # that it reads at once


class Dataset:
    """Recorded episodes: `observations` (a list of parts), `actions`, `rewards`, `terminations`, `truncations`,
    `masks` (or None), `lengths`. `len(dataset)` is the number of steps; `dataset.fit(spec)[index]` are those
    transitions [B, ...].
    """

    def __init__(self, path: str | Path):
        """Open the folder at `path`: one that `Run.record` or `Dataset.write` made, or one of Minari's.

        Raises:
            ConfigError: there is no dataset, or it is damaged.
            MissingExtraError: a Minari folder, without h5py.
        """
        self.path = Path(path).expanduser()
        minari = [p for p in (self.path / "data", self.path) if (p / "main_data.hdf5").is_file()]
        if minari:
            stored = read_minari(minari[0] / "main_data.hdf5")
        elif any(_minaris(p / "metadata.json") for p in (self.path, self.path / "data")):
            raise ConfigError(
                f"{self.path} is Minari's, but not in its format hdf5, which alone is read: write it with "
                'data_format="hdf5", or its episodes with td.Dataset.write'
            )
        elif (self.path / "metadata.json").exists():
            stored = _read(self.path)
        else:
            raise ConfigError(f"there is no dataset at {self.path}: neither metadata.json nor data/main_data.hdf5")
        self.observations, columns, self.masks, self.lengths = stored
        self.actions, self.rewards, self.terminations, self.truncations = columns
        self.structure: Any = None  # of an observation; `fit` knows
        lengths, shown = self.lengths, [*self.observations, *([] if self.masks is None else [self.masks])]
        steps = int(lengths.sum())
        size = lambda x: x.shape[0] if np.ndim(x) else 0  # noqa: E731
        wrong = [x for x in columns if size(x) != steps]
        wrong += [x for x in shown if size(x) != steps + len(lengths)]
        if wrong or steps == 0 or (lengths <= 0).any():
            raise ConfigError(f"{self.path} is damaged: its arrays do not have the lengths of its episodes")
        odd = {x.dtype for x in (*columns, *shown) if x.dtype.kind not in "biuf"}
        if odd:
            raise ConfigError(f"{self.path} has arrays of {', '.join(map(str, odd))}, not of numbers")
        for name, x in zip(STEPS[1:], columns[1:]):
            if x.ndim > 1:
                raise ConfigError(f"{self.path} has {name} of shape {x.shape}: they are one number for each step")
            if name != "rewards" and x.dtype != bool and not ((x == 0) | (x == 1)).all():
                raise ConfigError(f"{self.path} has {name} that are neither true nor false")
        self._ends = np.cumsum(lengths)  # of episodes, in steps

    @staticmethod
    def write(path: str | Path, episodes: Iterable[Episode], about: dict[str, Any] | None = None) -> Dataset:
        """The dataset that `write` makes of episodes: `td.Dataset.write("data", [td.Episode(...), ...])`."""
        return Dataset(write(path, episodes, about))

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}: {len(self.lengths)} episodes, {len(self)} steps)"

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _row(self, index: np.ndarray) -> np.ndarray:
        """Where the observations of steps are: each episode before has one more than it has steps."""
        index = np.where(index < 0, index + len(self), index)
        return index + np.searchsorted(self._ends, index, "right")

    @property
    def returns(self) -> np.ndarray:
        """The return of each episode."""
        return np.add.reduceat(np.asarray(self.rewards, float), self._ends - self.lengths)

    def digest(self) -> str:
        """SHA-256 of what was recorded, by which another dataset is told apart. Of an array with more than 64 MB it
        reads rows that are spread evenly over it, so many that they have that size."""
        sha = hashlib.sha256(self.lengths.astype("<i8").tobytes())
        masks = [] if self.masks is None else [self.masks]
        for x in (*self.observations, self.actions, self.rewards, self.terminations, self.truncations, *masks):
            sha.update(f"{x.dtype.str} {x.shape}".encode())
            most = max(1, HASHED // max(1, x.nbytes // len(x)))
            rows = np.linspace(0, len(x) - 1, min(len(x), most)).astype(np.int64)
            for some in np.array_split(rows, -(-len(rows) // ROWS)):
                sha.update(np.ascontiguousarray(x[some]).tobytes())
        return sha.hexdigest()

    def fit(self, spec: Spec) -> Dataset:
        """Itself, if it can be from an environment with these spaces; raises `ConfigError` if not."""
        parts, leaves = jax.tree.leaves(example(spec.observation)), self.observations
        shapes = [x.shape for x in parts], [x.shape[1:] for x in leaves]
        if shapes[0] != shapes[1]:
            raise ConfigError(f"{self.path} has observations of shape {shapes[1]}, the environment {shapes[0]}")
        if self.actions.shape[1:] != (spec.action.shape or ()):
            raise ConfigError(
                f"{self.path} has actions of shape {self.actions.shape[1:]}, the environment {spec.action.shape}"
            )
        for what, array, dtype in [
            ("actions", self.actions, spec.action.dtype),
            *(("observations", x, part.dtype) for x, part in zip(leaves, parts)),
        ]:
            if not np.can_cast(array.dtype, dtype, "same_kind"):
                raise ConfigError(f"{self.path} has {what} of {array.dtype}, the environment of {dtype}")
            if np.dtype(dtype).kind in "iu" and array.dtype.itemsize > np.dtype(dtype).itemsize:
                limits = np.iinfo(dtype)
                if array.min() < limits.min or array.max() > limits.max:
                    raise ConfigError(f"{self.path} has {what} that {dtype} cannot hold: give floats")
        if not isinstance(spec.action, Box):
            low, high = _bounds(spec.action)
            if (self.actions.min(0) < low).any() or (self.actions.max(0) > high).any():
                raise ConfigError(f"{self.path} has actions that are not in {spec.action}")
        elif not np.isfinite(self.actions).all():
            raise ConfigError(f"{self.path} has actions that are not finite")
        self._check_finite()
        if self.masks is not None:
            self._check_masks(spec)
        self.structure = jax.tree.structure(example(spec.observation))
        self.dtypes = [x.dtype for x in parts]
        self.real = isinstance(spec.action, Box)  # algorithms know its whole numbers, of whatever size, as floats
        self.start = np.asarray(spec.action.start) if isinstance(spec.action, (Discrete, MultiDiscrete)) else None
        return self

    def _check_finite(self) -> None:
        """Raise `ConfigError` where a reward or an observation is not finite as the float32 that is learned from."""
        starts = self._ends - self.lengths  # of episodes, in steps
        shown = starts + np.arange(len(starts))  # the same in observations
        columns = [("rewards", self.rewards, starts), *(("observations", x, shown) for x in self.observations)]
        for what, x, first in columns:
            for i in range(0, len(x) if x.dtype.kind == "f" else 0, ROWS):
                with np.errstate(over="ignore"):
                    some = np.asarray(x[i : i + ROWS], np.float32)
                bad = ~np.isfinite(some).reshape(len(some), -1).all(1)
                if bad.any():
                    row = i + int(np.argmax(bad))
                    episode = int(np.searchsorted(first, row, "right")) - 1
                    at = row - first[episode]
                    raise ConfigError(f"{self.path} has {what} that are not finite: row {at} of episode {episode}")

    def _check_masks(self, spec: Spec) -> None:
        sizes = mask_sizes(spec.action)
        try:
            masks = self.masks = flat_mask(self.masks, spec.action, 1)
        except ValueError as error:
            raise ConfigError(f"{self.path} has masks, each of which {error}") from None
        start = getattr(spec.action, "start", 0)
        taken = (self.actions - start).reshape(len(self), -1) + np.cumsum(sizes) - sizes
        row = self._row(np.arange(len(self)))
        if not np.take_along_axis(masks[row].astype(bool), taken.astype(int), 1).all():
            raise ConfigError(f"{self.path} has actions that its masks do not allow")
        cut = np.asarray(self.truncations, bool) & ~np.asarray(self.terminations, bool)
        if not choosable(masks[row[cut] + 1].astype(bool), sizes).all():
            raise ConfigError(f"{self.path} has masks that allow nothing where an episode was cut")

    def __getitem__(self, index: np.ndarray) -> Transition:
        """The transitions at `index`, of any kind and shape [...], as algorithms read them: leaves [..., *shape]."""
        if self.structure is None:
            raise ConfigError("say first which environment the transitions are for: dataset.fit(spec)")
        numbers = np.asarray(index)
        index = numbers.astype(np.int64) if numbers.dtype.kind in "iu" else np.arange(len(self))[index]
        row = self._row(index)
        read = lambda rows: jax.tree.unflatten(  # noqa: E731
            self.structure, [np.asarray(x[rows], dtype) for x, dtype in zip(self.observations, self.dtypes)]
        )
        actions = self.actions[index]
        if self.start is not None:
            actions = (actions - self.start).astype(np.int32)
        elif self.real and actions.dtype.kind in "iub":
            actions = actions.astype(np.float32)
        reward: Any = np.asarray(self.rewards[index], np.float32)
        terminated, truncated = (np.asarray(x[index], bool) for x in (self.terminations, self.truncations))
        masks = self.masks
        info = {} if masks is None else {"mask": masks[row].astype(bool), "next_mask": masks[row + 1].astype(bool)}
        parts: Any = (read(row), (), actions, {}, reward, terminated, truncated, read(row + 1), info)
        return Transition(*parts)


def _bounds(space: Any) -> tuple[Any, Any]:
    """Least and greatest values of a space of whole numbers."""
    if isinstance(space, Discrete):
        return space.start, space.start + space.n - 1
    return (space.start, space.start + space.nvec - 1) if isinstance(space, MultiDiscrete) else (0, 1)


def new(path: str | Path) -> Path:
    """A path for a new dataset; raises `ConfigError` where there is something."""
    path = Path(path).expanduser()
    if path.exists():
        raise ConfigError(f"{path} exists already: choose another directory")
    return path


def write(path: str | Path, episodes: Iterable[Episode], about: dict[str, Any] | None = None) -> Path:
    """Write episodes as a dataset; the folder appears whole or not at all.

    Args:
        path: a folder that does not exist yet.
        episodes: at least one; all with masks, or none.
        about: what else `metadata.json` should say: the environment, who acted.

    Raises:
        ConfigError: these are no episodes of one environment, there is something at `path`, or the disk refuses.
    """
    path, columns = new(path), checked(episodes)
    names = list(columns[0])
    metadata = {
        "format": FORMAT,
        "lengths": [len(episode["rewards"]) for episode in columns],
        "observations": sum(name not in (*STEPS, "masks") for name in names),
        "masks": "masks" in names,
    }
    own = set(about or {}) & {*metadata, "data_format"}
    require(not own, f"{', '.join(sorted(own))} cannot be said in about: metadata.json has it already")
    try:
        text = json.dumps((about or {}) | metadata)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"about cannot be kept in metadata.json: {error}; give plain values") from None
    small = len(text) <= LARGEST_JSON
    require(small, f"metadata.json would have {len(text):,} bytes, and {LARGEST_JSON:,} are read: write two datasets")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name in names:
            put(temporary / f"{name}.npy", _npy(np.concatenate([episode[name] for episode in columns])))
        put(temporary / "metadata.json", [text.encode()])
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _npy(x: np.ndarray) -> Iterator[bytes | memoryview]:
    """An .npy file as buffers. NumPy's own writer does not notice where a disk is full."""
    x, header = np.ascontiguousarray(x), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(x))
    yield header.getvalue()
    yield x.reshape(-1).view(np.uint8).data


def _minaris(metadata: Path) -> bool:
    """Whether a file describes a dataset of Minari's."""
    try:
        return "data_format" in read_json(metadata)
    except (CheckpointError, TypeError):
        return False


def _read(path: Path) -> Stored:
    try:
        metadata = read_json(path / "metadata.json")
        if metadata["format"] != FORMAT:
            raise ConfigError(f"{path} has format {metadata['format']}, this version reads {FORMAT}")
        lengths, n = np.asarray(metadata["lengths"], np.int64), int(metadata["observations"])
        observations = [_mapped(path / f"{name}.npy") for name in part_names(n)]
        masks = _mapped(path / "masks.npy") if metadata.get("masks") else None
        return Stored(observations, [_mapped(path / f"{name}.npy") for name in STEPS], masks, lengths.reshape(-1))
    except ConfigError:
        raise
    except Exception as error:  # whatever NumPy's parser of headers, which is Python's, makes of it
        raise ConfigError(f"{path} is not a dataset, or damaged: {error}") from None


def _mapped(path: Path) -> np.ndarray:
    """The array in an .npy file, mapped into memory."""
    check_regular(path)
    return np.lib.format.open_memmap(path, mode="r")
