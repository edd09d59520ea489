"""Trees of arrays in safetensors files, keyed by tree path. Loading one never executes or unpickles anything."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from thorndike.errors import CheckpointError
from thorndike.files import LARGEST_JSON, open_regular
from thorndike.types import PyTree

MEMORY = ".memory"  # how the names of a run state's replay memory begin: of rings only filled rows are stored


def padded(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A ring [R, capacity, ...] of which only the first rows are given; the others are zeros, as they were."""
    ring = len(shape) == rows.ndim > 1 and rows.shape[:1] + rows.shape[2:] == shape[:1] + shape[2:]
    if not ring or rows.shape[1] >= shape[1]:
        return rows
    whole = np.zeros(shape, rows.dtype)
    whole[:, : rows.shape[1]] = rows
    return whole


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _generator(key: Any) -> Any:
    """Which generator's a key is, of an array or its shape: an environment may keep one of JAX's own."""
    found: list[Any] = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), key)
    return found[0]


def to_arrays(tree: PyTree) -> dict[str, np.ndarray]:
    """Every leaf under its path; random keys as their raw bits."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in flat
    }


def from_arrays(arrays: dict[str, np.ndarray], like: PyTree, what: str) -> PyTree:
    """A tree shaped as `like` (arrays or shapes), filled from `arrays`. Raises `CheckpointError` on any mismatch."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    missing, extra = set(names) - set(arrays), set(arrays) - set(names)
    if missing or extra:
        some = ", ".join(sorted(missing | extra)[:4])
        raise CheckpointError(
            f"{what} does not fit: {len(missing)} arrays missing, {len(extra)} unknown ({some}, ...). "
            "It was saved by another algorithm, other hyperparameters, or another version."
        )
    leaves = []
    for name, (_, leaf) in zip(names, paths):
        data, expected = arrays[name], jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        if name.startswith(MEMORY):
            data = padded(data, expected.shape)
        if data.shape != tuple(expected.shape) or data.dtype != expected.dtype:
            raise CheckpointError(
                f"{what} does not fit: {name} is {data.dtype}{list(data.shape)}, "
                f"expected {expected.dtype}{list(expected.shape)}"
            )
        leaves.append(jax.random.wrap_key_data(jnp.asarray(data), impl=_generator(leaf)) if _is_key(leaf) else data)
    return jax.tree_util.tree_unflatten(treedef, leaves)


def encode(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file. Raises `CheckpointError` where `read` would not take it."""
    data = save(_contiguous(arrays), metadata)
    if (header := int.from_bytes(data[:8], "little")) > LARGEST_JSON:
        raise CheckpointError(f"{header:,} bytes of names and settings cannot be saved: {LARGEST_JSON:,} are read")
    return data


def write(path: Path, arrays: dict[str, np.ndarray]) -> str:
    """Write a safetensors file, from the arrays' own memory, until the disk has it; its SHA-256.

    Raises `OSError`, or `CheckpointError` where `read` would not take it.
    """
    try:
        save_file(_contiguous(arrays), path)
    except SafetensorError as error:  # it says what the system said
        raise OSError(str(error)) from None
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _contiguous(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for name, x in arrays.items():
        if (x.dtype.kind not in "biufc" and x.dtype != jnp.bfloat16) or x.dtype == np.complex128:
            raise CheckpointError(f"{name} cannot be saved: no such file that is read holds {x.dtype}")
    return {name: np.ascontiguousarray(x).reshape(x.shape) for name, x in arrays.items()}


def digest(arrays: dict[str, np.ndarray], text: str = "") -> str:
    """SHA-256 over a text and the names and contents of arrays."""
    sha = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        sha.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return sha.hexdigest()


class Contents(NamedTuple):
    """What is in a safetensors file."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]
    sha256: str  # of the whole file


def read(path: Path, prefix: str = "") -> Contents:
    """The arrays in a safetensors file whose names begin with `prefix`. Raises `CheckpointError`."""
    try:
        with open_regular(path) as file:
            if (header := int.from_bytes(file.read(8), "little")) > LARGEST_JSON:
                raise ValueError(f"its header has {header:,} bytes, and at most {LARGEST_JSON:,} are read")
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with safe_open(path, "np", backend="pread") as found:  # type: ignore[no-untyped-call]
            names = [name for name in found.keys() if name.startswith(prefix)]  # noqa: SIM118
            return Contents({name: found.get_tensor(name) for name in names}, found.metadata() or {}, sha256)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None
