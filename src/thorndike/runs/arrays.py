"""Trees of arrays in safetensors files, keyed by tree path. Loading one never executes or unpickles anything."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from thorndike.errors import CheckpointError
from thorndike.ops.keys import IMPLEMENTATION
from thorndike.types import PyTree


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


def encode(arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file."""
    return save({name: np.ascontiguousarray(x).reshape(x.shape) for name, x in arrays.items()}, metadata)


def digest(arrays: dict[str, np.ndarray], text: str = "") -> str:
    """SHA-256 over a text and the names and contents of arrays."""
    sha = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        sha.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return sha.hexdigest()


def read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file. Raises `CheckpointError`."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None
