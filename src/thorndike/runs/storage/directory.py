"""A run's directory: a new one for each run, and one process at a time that trains in it."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thorndike.errors import CheckpointError, ConfigError, require
from thorndike.files import check_regular, open_regular, read_json

try:
    import fcntl
except ImportError:  # where there are no such locks, nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"  # the system frees it when its process ends, however it ends


def new_directory(out: str | Path | None, algorithm: Any, env: str, name: str | None = None) -> Path:
    """A directory for a new run; raises `ConfigError` rather than write into another run's.

    By default it is in `runs`, and called by the run's name, where it has one, or by the environment and the algorithm.
    """
    if out is not None:
        path = Path(out).expanduser()
        unused(path)
        _make(path)
        return path
    base = plain(name) if name else f"{plain(env)}_{type(algorithm).__name__.lower()}"
    for i in itertools.count(1):
        path = Path("runs") / (base if name and i == 1 else f"{base}_{i}")
        if not path.exists() and _make(path, new=True):
            return path
    raise AssertionError


def plain(text: str) -> str:
    """A text as part of a directory's name: letters, digits and what else every system takes; "run" if none is left."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.") or "run"


def unused(path: Path) -> None:
    """Raise `ConfigError` where there is a run at `path`, or what else a run there would empty or remove."""
    require(not (path / "run.json").exists(), f"{path} holds a run already: resume it, or choose another directory")
    left = f"{path} holds metrics, checkpoints or a status already, and no run: choose another directory"
    require(not begun(path), left)


def begun(path: Path) -> bool:
    """Whether the run at `path` has left anything: a row of metrics, a checkpoint, or word of how it ended."""
    metrics, status = path / "metrics.jsonl", path / "status.json"
    rows = metrics.is_file() and metrics.stat().st_size > 0
    said = None
    with contextlib.suppress(CheckpointError):  # there is none, or it is no run's
        said = read_json(status)
    ended = isinstance(said, dict) and said.get("state") in ("diverged", "interrupted")
    return rows or ended or any((path / "checkpoints").glob("*"))


def _make(path: Path, new: bool = False) -> bool:
    """Make a directory; False if it has to be `new` and somebody else made it in this moment."""
    try:
        path.mkdir(parents=True, exist_ok=not new)
    except OSError as error:
        if new and path.is_dir():
            return False
        raise ConfigError(f"cannot make the directory {path}: {error.strerror}") from None
    return True


@contextlib.contextmanager
def training(path: Path) -> Iterator[None]:
    """Hold the lock of the run at `path`; raises `ConfigError` where another process, or thread, has it, and
    `CheckpointError` where the lock is no file.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a directory that cannot be written into is for others to report
                check_regular(path / LOCK)
                file = stack.enter_context(open(path / LOCK, "ab"))
                for _ in range(20):  # for who only looks has it for a moment
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(0.05)
                else:
                    raise ConfigError(f"{path} is being trained already: wait for it, or stop it")
                stack.callback(fcntl.flock, file, fcntl.LOCK_UN)  # closing does not, where an environment has forked
        yield


def trained(path: Path) -> bool:
    """Whether somebody trains in `path`; True where that cannot be known."""
    if fcntl is None:
        return True
    try:
        with open_regular(path / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (OSError, CheckpointError):
        return True
    return False
