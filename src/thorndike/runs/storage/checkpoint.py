"""Checkpoints: the whole run state, written so that a crash at any moment leaves the previous one intact.

`checkpoints/<step>/` holds `arrays.safetensors`, `state.json` and `manifest.json` with the SHA-256 of each; where there
is a replay memory, its filled rows are in `memory.safetensors`, which only the two newest checkpoints keep. A folder is
written under a temporary name, synced to disk and renamed; the newest one whose hashes hold is the one to resume.
`checkpoints/best` is of the same kind, but holds the agents alone: it is to look at, not to go on from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import CheckpointError
from thorndike.files import parse_json, read_json, read_small, write
from thorndike.memory.ring import filled
from thorndike.runs.storage import arrays
from thorndike.types import PyTree

ARRAYS, MEMORY, STATE, MANIFEST = "arrays.safetensors", "memory.safetensors", "state.json", "manifest.json"
REMEMBER = 2  # checkpoints that keep their replay memory
AGENT = ".agent"  # how the names of the agents' arrays begin
BEST, LAST_BEST = "best", ".best.old"


def save(folder: Path, step: int, tree: PyTree, meta: dict[str, Any], keep: int = 3, every: int | None = None) -> Path:
    """Write `checkpoints/<step>`, and remove all but the newest `keep` and those at multiples of `every`.

    Raises `CheckpointError` if the disk refuses.
    """
    final = save_arrays(folder, step, arrays.to_arrays(filled(tree)), meta)
    before = [other for other in steps(folder) if other <= step]  # a later one was damaged, or not resumed
    kept = [*before[-keep:], *(other for other in before if every and other % every == 0)]
    for path in folder.iterdir():
        left = path.suffix in (".tmp", ".old") and path.name != LAST_BEST
        if left or (_is_step(path.name) and int(path.name) not in kept):
            shutil.rmtree(path, ignore_errors=True)
    for older in before[:-REMEMBER]:
        (folder / f"{older:012d}" / MEMORY).unlink(missing_ok=True)
    return final


def save_arrays(folder: Path, step: int, found: dict[str, np.ndarray], meta: dict[str, Any]) -> Path:
    """Write `checkpoints/<step>` from arrays as `load` gives them. Raises `CheckpointError` if the disk refuses."""
    return _write(folder, f"{step:012d}", found, meta)


def save_best(folder: Path, tree: PyTree, meta: dict[str, Any]) -> Path:
    """Write `checkpoints/best` in the place of what was the best. Raises `CheckpointError` if the disk refuses."""
    return _write(folder, BEST, arrays.to_arrays(filled(tree)), meta)


def _write(folder: Path, name: str, found: dict[str, np.ndarray], meta: dict[str, Any]) -> Path:
    final, temporary, old = folder / name, folder / f".{name}.tmp", folder / f".{name}.old"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        memory = {name: x for name, x in found.items() if name.startswith(arrays.MEMORY)}
        parts = {ARRAYS: {name: x for name, x in found.items() if name not in memory}}
        parts |= {MEMORY: memory} if memory else {}
        manifest = {
            **{name: arrays.write(temporary / name, part) for name, part in parts.items()},
            STATE: write(temporary / STATE, [json.dumps(meta).encode()]),
        }
        write(temporary / MANIFEST, [json.dumps(manifest).encode()])
        _sync(temporary)
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        temporary.rename(final)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = "The last good one is kept" if steps(folder) else "There is none yet"
        raise CheckpointError(
            f"could not save a checkpoint in {folder}: {error.strerror or error}. {kept}; "
            "free some space or make the folder writable."
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    return final


def place(folder: Path, step: int | str) -> Path:
    """The folder of the checkpoint at `step`, or of the "best". Raises `CheckpointError` that names those there are."""
    if step == BEST and not (folder / BEST).exists():
        path = folder / LAST_BEST  # where the process ended just before the new one had its name
    else:
        path = folder / (BEST if step == BEST else f"{step:012d}")
    if path.is_dir():
        return path
    there = [f"{one:,}" for one in steps(folder)] + [BEST] * (folder / BEST).exists()
    hint = "; one is kept by td.train(..., evaluate_every=...)" if step == BEST else ""
    what = "best checkpoint" if step == BEST else f"checkpoint of step {step:,}"
    raise CheckpointError(f"there is no {what} in {folder}: there are {', '.join(there) or 'none'}{hint}")


def steps(folder: Path) -> list[int]:
    """Steps of all checkpoints, oldest first."""
    return sorted(int(path.name) for path in folder.glob("*") if _is_step(path.name)) if folder.is_dir() else []


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit()


def load(path: Path, prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of one checkpoint, after checking its hashes. Raises `CheckpointError`.

    Only arrays whose names begin with `prefix` are kept: those of the agents alone are `AGENT`.
    """
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or set(manifest) - {MEMORY} != {ARRAYS, STATE}:
        raise CheckpointError(f"{path / MANIFEST} is not a manifest")
    parts = [ARRAYS, *([MEMORY] if MEMORY in manifest and not prefix else [])]
    if MEMORY in parts and not (path / MEMORY).exists():
        raise CheckpointError(f"{path} holds agents alone: the newest {REMEMBER} checkpoints keep their replay memory")
    try:
        state = read_small(path / STATE)
    except OSError as error:
        raise CheckpointError(f"{path / STATE} cannot be read: {error.strerror or error}") from None
    found = {name: arrays.read(path / name, prefix) for name in parts}
    hashes = {name: part.sha256 for name, part in found.items()} | {STATE: hashlib.sha256(state).hexdigest()}
    for name, sha256 in hashes.items():
        if sha256 != manifest[name]:
            raise CheckpointError(f"{path / name} is damaged: its SHA-256 is not the one in the manifest")
    whole = {name: x for part in found.values() for name, x in part.arrays.items()}
    return whole, parse_json(state, path / STATE)


def load_newest(folder: Path, prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any], list[str]] | None:
    """The newest checkpoint that is whole, with a message for each damaged one passed over; None without any.

    `prefix` is that of `load`. Raises `CheckpointError` where there are checkpoints and none is whole.
    """
    damaged: dict[int, str] = {}
    found = None
    while found is None and (left := [step for step in steps(folder) if step not in damaged]):
        try:
            found = load(folder / f"{left[-1]:012d}", prefix)
        except CheckpointError as error:
            damaged[left[-1]] = str(error)
    there = [message for step, message in damaged.items() if step in steps(folder)]  # the others were removed meanwhile
    if found is not None:
        return *found, there
    if there:
        raise CheckpointError("no checkpoint is whole:\n  " + "\n  ".join(there))
    return None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
