"""Trees of arrays in safetensors files, keyed by tree path. Loading one never executes or unpickles anything."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.errors import CheckpointError
from thorndike.files import LARGEST_JSON, open_regular
from thorndike.ops.keys import IMPLEMENTATION
from thorndike.types import PyTree

DTYPES = {  # what the format calls them; the later ones, which are larger, come first in a file
    name: np.dtype(dtype)
    for name, dtype in {
        "BOOL": bool, "U8": np.uint8, "I8": np.int8, "I16": np.int16, "U16": np.uint16, "F16": np.float16,
        "BF16": jnp.bfloat16, "I32": np.int32, "U32": np.uint32, "F32": np.float32, "C64": np.complex64,
        "F64": np.float64, "I64": np.int64, "U64": np.uint64,
    }.items()
}  # fmt: skip
MOST_AXES = 32
CHUNK = 2**20  # bytes that are read and hashed at a time


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


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
        if data.shape != tuple(expected.shape) or data.dtype != expected.dtype:
            raise CheckpointError(
                f"{what} does not fit: {name} is {data.dtype}{list(data.shape)}, "
                f"expected {expected.dtype}{list(expected.shape)}"
            )
        leaves.append(jax.random.wrap_key_data(jnp.asarray(data), impl=IMPLEMENTATION) if _is_key(leaf) else data)
    return jax.tree_util.tree_unflatten(treedef, leaves)


def encode(arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Iterator[bytes | memoryview]:
    """A safetensors file as buffers, one after the other: a header, and each array's own memory.

    Raises `CheckpointError` where arrays are of a kind that no such file holds.
    """
    known = {dtype: kind for kind, dtype in DTYPES.items()}
    kinds = {name: known.get(x.dtype.newbyteorder("<"), "") for name, x in arrays.items()}
    odd = [name for name, kind in kinds.items() if not kind]
    if odd:
        raise CheckpointError(f"{odd[0]} cannot be saved: it is of {arrays[odd[0]].dtype}")
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    order = sorted(arrays, key=lambda name: (-list(DTYPES).index(kinds[name]), name))
    at = 0
    for name in order:
        shape, end = list(arrays[name].shape), at + arrays[name].nbytes
        header[name] = {"dtype": kinds[name], "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_JSON:
        raise CheckpointError(f"{len(text):,} bytes of names and settings cannot be saved: {LARGEST_JSON:,} are read")
    buffers = (_buffer(arrays[name]) for name in order)
    return itertools.chain((len(text).to_bytes(8, "little"), text), buffers)


def digest(arrays: dict[str, np.ndarray], text: str = "") -> str:
    """SHA-256 over a text and the names and contents of arrays."""
    sha = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        sha.update(name.encode())
        sha.update(_buffer(arrays[name]))
    return sha.hexdigest()


def _buffer(x: np.ndarray) -> memoryview:
    """An array's bytes in their order; a copy only where they do not lie so."""
    return np.ascontiguousarray(x, x.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data


class Contents(NamedTuple):
    """What is in a safetensors file."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]
    sha256: str  # of the whole file


def read(path: Path, prefix: str = "") -> Contents:
    """The arrays in a safetensors file whose names begin with `prefix`. Raises `CheckpointError`."""
    try:
        with open_regular(path) as file:
            return _read(file, prefix)
    except CheckpointError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None


def _read(file: BufferedReader, prefix: str) -> Contents:
    sha, scratch = hashlib.sha256(), memoryview(bytearray(CHUNK))
    size = os.fstat(file.fileno()).st_size
    first = file.read(8)
    n = int.from_bytes(first, "little")
    if n > min(size - 8, LARGEST_JSON):
        raise ValueError("it is cut short, or its header is too large")
    text = file.read(n)
    sha.update(first + text)
    header = json.loads(text)
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not text")
    layout = _layout(header, size - 8 - n)
    arrays = {name: np.empty(shape, dtype) for name, dtype, shape, _ in layout if name.startswith(prefix)}
    for name, _, _, length in layout:
        room = _buffer(arrays[name]) if name in arrays else None
        for i in range(0, length, CHUNK):
            piece = scratch[: length - i] if room is None else room[i : i + CHUNK]
            if file.readinto(piece) != len(piece):
                raise ValueError("it is cut short")
            sha.update(piece)
    return Contents(arrays, metadata, sha.hexdigest())


def _layout(header: dict[str, Any], size: int) -> list[tuple[str, np.dtype, list[int], int]]:
    """Name, dtype, shape and bytes of each array in `size` bytes, in which they lie one after the other.

    Raises `ValueError`, or what comes of a header that is another thing, where they do not.
    """
    found, at = [], 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = DTYPES.get(entry["dtype"]), entry["shape"]
        if dtype is None:
            raise ValueError(f"{name[:80]} is of {str(entry['dtype'])[:80]}, which is not read")
        if len(shape) > MOST_AXES or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
            raise ValueError(f"{name[:80]} has the shape {str(shape)[:80]}")
        length = math.prod(shape) * dtype.itemsize
        if entry["data_offsets"] != [at, at + length]:
            raise ValueError(f"{name[:80]} does not lie where its shape says")
        found.append((name, dtype, shape, length))
        at += length
    if at != size:
        raise ValueError(f"it holds {size:,} bytes of arrays, and its header says {at:,}")
    return found
