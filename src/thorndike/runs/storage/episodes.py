"""`episodes.bin`: every training episode of a run, 16 bytes each, appended as training goes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from thorndike.errors import CheckpointError
from thorndike.files import open_regular, replace

RECORD = np.dtype([("step", "<u4"), ("member", "<u4"), ("length", "<u4"), ("return", "<f4")])
BYTES = RECORD.itemsize


class EpisodesFile:
    """Appends records, ordered by the step at which the episode ended."""

    def __init__(self, path: Path, keep_until: int):
        """Open for appending; records beyond the step `keep_until` are dropped first, they will be written again."""
        if path.exists():
            known = read(path)
            kept = known[known["step"] <= keep_until] if keep_until >= 0 else known[:0]
            if len(kept) * BYTES != path.stat().st_size:
                replace(path, [kept.tobytes()])
        self.file = path.open("ab")

    def write(self, records: np.ndarray) -> None:
        """Append records."""
        try:
            self.file.write(records.tobytes())
            self.file.flush()
        except OSError as error:
            raise CheckpointError(f"could not write {self.file.name}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # a full disk was reported by write
            self.file.close()


def read(path: Path) -> np.ndarray:
    """All whole records; none where there is no such file."""
    if not path.exists():
        return np.empty(0, RECORD)
    with open_regular(path) as file:
        data = file.read()
    return np.frombuffer(data[: len(data) - len(data) % BYTES], RECORD)


def records(steps: np.ndarray, returns: np.ndarray, lengths: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Records of arrays [R, n], a row for each member of the run, as far as they are there; in the order of steps."""
    found = np.empty(int(there.sum()), RECORD)
    found["member"] = np.nonzero(there)[0]
    found["step"], found["length"], found["return"] = steps[there], lengths[there], returns[there]
    return found[np.argsort(found["step"], kind="stable")]
