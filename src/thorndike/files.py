"""Files: read where they are regular ones, JSON up to a size; written whole or not at all.

A pipe in the place of a file may give nothing for ever, a device may have no end, and JSON takes many times its size in
memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any

from thorndike.errors import CheckpointError

LARGEST_JSON = 2**23  # bytes


def check_regular(path: Path) -> None:
    """Raise `CheckpointError` where there is a folder, a pipe or a device, also behind a link."""
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is a folder, a pipe or a device: put the file itself there")


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read. Raises `CheckpointError` where it is not a regular one, or `OSError`."""
    check_regular(path)
    return path.open("rb")


def read_small(path: Path) -> bytes:
    """All of a file that holds JSON. Raises `CheckpointError` where it is too large or no file, or `OSError`."""
    with open_regular(path) as file:
        data = file.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise CheckpointError(f"{path} has more than the {LARGEST_JSON:,} bytes that are read as JSON")
    return data


def parse_json(data: bytes, path: Path) -> Any:
    """What the JSON in a file says. Raises `CheckpointError`."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from None


def read_json(path: Path) -> Any:
    """JSON from a file. Raises `CheckpointError`."""
    try:
        return parse_json(read_small(path), path)
    except OSError as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from None


def write(path: Path, pieces: Iterable[bytes | memoryview]) -> str:
    """Write a new file, buffer after buffer, until the disk has it; its SHA-256. Raises `OSError`."""
    sha = hashlib.sha256()
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
            sha.update(piece)
        file.flush()
        os.fsync(file.fileno())
    return sha.hexdigest()


def replace(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file in the place of what may be there. Raises `CheckpointError` if the disk refuses; that stays then."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        write(temporary, pieces)
        os.replace(temporary, path)
    except OSError as error:
        kept = f"{path.name} is as it was before" if os.path.lexists(path) else f"There is no {path.name} yet"
        raise CheckpointError(
            f"could not write {path}: {error.strerror or error}. {kept}; free some space or make the folder writable."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Write JSON that `read_json` will read, whole or not at all. Raises `CheckpointError`."""
    text = (json.dumps(data, indent=2) + "\n").encode()
    if len(text) > LARGEST_JSON:
        raise CheckpointError(f"{path} would have {len(text):,} bytes of JSON, and at most {LARGEST_JSON:,} are read")
    replace(path, [text])
