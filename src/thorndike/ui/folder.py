"""The runs below one folder, by names that cannot lead out of it: no absolute path, no `..`, and no link."""

from __future__ import annotations

import os
import threading
from pathlib import Path, PurePosixPath
from typing import Any

from thorndike.errors import CheckpointError, ConfigError
from thorndike.runs.results.listing import KEYS, cells, folders, record_of
from thorndike.runs.storage.directory import trained
from thorndike.runs.storage.journal import Journal

READ = ("run.json", "status.json", "metrics.jsonl", "lock", "resume.log")  # of a run, where it has them
PICTURES = (".gif", ".mp4", ".png", ".jpg", ".jpeg")  # what is shown: nothing that could hold a script


class Folder:
    """A folder with runs in it. A run's name is its path below the folder, with `/`, and "." is the folder itself."""

    def __init__(self, path: str | Path):
        """Raises `ConfigError` where there is no such folder."""
        self.path = Path(path).expanduser().resolve()
        if not self.path.is_dir():
            raise ConfigError(f"there is no folder {path}: say where the runs are (thorndike ui DIR)")
        self._known: dict[Path, tuple[Any, dict[str, Any]]] = {}  # the state of a run's files, and what they said then
        self._lock = threading.Lock()  # each page asks in a thread of its own

    def run(self, name: str) -> Path:
        """The directory of a run.

        Raises:
            ConfigError: there is no such run below the folder; files that lead elsewhere count as none.
        """
        path = self._below(self.path, name)
        if path is None or not (path / "run.json").is_file():
            raise ConfigError(f"there is no run {name!r} in {self.path}")
        if led := _links(path):
            raise ConfigError(f"{name!r} is not shown: its {led[0]} is a link")
        return path

    def journal(self, name: str) -> Journal:
        """What a run says of itself; raises `ConfigError` as `run` does, and `CheckpointError` where it is damaged."""
        return Journal(self.run(name))

    def records(self) -> list[dict[str, Any]]:
        """A record of every run as `list_runs` has it, the newest last, with its "name" too."""
        with self._lock:
            known = {path: self._told_by(path) for path in folders(self.path)}
            self._known = known  # without those that are gone
        found = [{**record, "name": path.relative_to(self.path).as_posix()} for path, (_, record) in known.items()]
        return sorted(found, key=lambda record: (record["made"] or 0.0, record["path"]))

    def _told_by(self, path: Path) -> tuple[Any, dict[str, Any]]:
        """Read again only where a file has changed, or a process that trains has come or gone."""
        stamp = [_stamp(path / name) for name in READ], trained(path)
        known = self._known.get(path)
        return known if known is not None and known[0] == stamp else (stamp, _told(path))

    def pictures(self, name: str) -> list[str]:
        """Films and pictures of a run, below its directory, the newest first."""
        run = self.run(name)
        found: list[tuple[float, str]] = []
        for place in (run, run / "video"):
            if place.is_symlink() or not place.is_dir():
                continue
            for path in place.iterdir():
                if path.suffix.lower() in PICTURES and path.is_file() and not path.is_symlink():
                    found.append((path.stat().st_mtime, path.relative_to(run).as_posix()))
        return [one for _, one in sorted(found, reverse=True)]

    def picture(self, name: str, file: str) -> Path:
        """The path of one of `pictures`; raises `ConfigError` where it is none of them."""
        if file not in self.pictures(name):
            raise ConfigError(f"the run {name!r} has no picture {file!r}")
        return self.run(name) / file

    def _below(self, base: Path, name: str) -> Path | None:
        """The path of that name below `base`; None where it is outside, or behind a link."""
        parts = PurePosixPath(name).parts
        if not name or "\0" in name or "\\" in name or name.startswith("/") or ".." in parts:
            return None
        path = base.joinpath(*parts)
        try:
            return path if path.resolve(strict=True) == path else None
        except (OSError, RuntimeError, ValueError):
            return None


def _links(run: Path) -> list[str]:
    """Those of the files that are read which are links: what they show need not be the run's."""
    return [name for name in READ if (run / name).is_symlink()]


def _told(path: Path) -> dict[str, Any]:
    """The record of a run of which a table's line can be made, whatever is in its files."""
    try:
        if led := _links(path):
            raise CheckpointError(f"its {led[0]} is a link")
        record = record_of(path)
        cells(record)
        return record
    except Exception as error:  # of a thousand runs one may say anything, and the others are shown
        return {**dict.fromkeys(KEYS), "path": str(path), "signs": [], "state": "broken", "error": describe(error)}


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced; () where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns


def describe(error: Exception) -> str:
    """What is shown of an error in reading a run."""
    return str(error) if isinstance(error, (CheckpointError, ConfigError)) else f"{type(error).__name__}: {error}"
