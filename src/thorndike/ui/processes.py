"""The process that trains a run: finding it, the signal of Ctrl-C, and going on with a run in a process of its own.

Who trains holds the run's lock, a file that is open for writing as long as it trains. Linux shows a user the files that
the user's own processes have open, so what is found is a run of one's own, on this machine, and no number in a file is
believed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from thorndike.errors import ConfigError, require
from thorndike.runs.storage.directory import LOCK, trained
from thorndike.runs.storage.journal import Journal

LOG = "resume.log"  # in a run's directory: what `thorndike resume` says there
MOST_STEPS = 10**15
SAID = 4000  # characters of that which are read


def trainer(path: Path) -> int | None:
    """The process of this user that trains in `path`; None where there is none, or the system does not tell."""
    holders = {pid: _parent(pid) for pid in _holders(path / LOCK)}
    first = [pid for pid, parent in holders.items() if parent not in holders]  # workers inherit what is open
    return first[0] if len(first) == 1 and trained(path) else None


def _holders(lock: Path) -> list[int]:
    """Processes of this user, but for this one, that have the file open for writing: who only looks, reads."""
    try:
        wanted = lock.stat()
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []
    return [pid for pid in pids if pid != os.getpid() and _holds(pid, wanted)]


def _holds(pid: int, wanted: os.stat_result) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    with contextlib.suppress(OSError):  # it is somebody else's, or has just ended
        if folder.stat().st_uid != os.geteuid():
            return False
        for link in folder.iterdir():
            with contextlib.suppress(OSError):
                if link.lstat().st_mode & stat.S_IWUSR and os.path.samestat(link.stat(), wanted):
                    return True
    return False


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


class Processes:
    """Stops runs and goes on with them. What was begun here trains on when this program ends."""

    def __init__(self) -> None:
        self.asked: dict[Path, int] = {}  # the process that was told to stop: a second signal would not let it save
        self.begun: dict[Path, subprocess.Popen[bytes]] = {}
        self.since: dict[Path, float] = {}  # when, in seconds since 1970
        self.lock = threading.Lock()  # two clicks are two threads

    def stop(self, path: Path) -> str:
        """Send what Ctrl-C sends; training then saves and ends. Raises `ConfigError` where nobody can be told to."""
        with self.lock:
            return self._stop(path)

    def _stop(self, path: Path) -> str:
        pid = self._running(path) or trainer(path)
        if pid is None:
            why = "by a process that is not yours, or elsewhere" if trained(path) else "by nobody"
            raise ConfigError(f"{path.name} is trained {why}: there is nothing to stop from here")
        if self.asked.get(path) == pid:
            return "it was told to stop already, and saves first; a second Ctrl-C, where it runs, would leave unsaved"
        with _handle(pid) as send:
            if self._running(path) != pid and trainer(path) != pid:  # that number is another process by now
                raise ConfigError(f"{path.name} has just ended")
            send()
        self.asked[path] = pid
        return "told to stop: it saves a checkpoint and ends"

    def resume(self, path: Path, steps: int | None = None) -> str:
        """Go on with a run as `thorndike resume` does, up to `steps` where these are given. Raises `ConfigError`."""
        with self.lock:
            return self._resume(path, steps)

    def _resume(self, path: Path, steps: int | None) -> str:
        journal = Journal(path)
        require(not trained(path) and self._running(path) is None, f"{path.name} is being trained already")
        own = f"something of your own takes part, which is not imported here: {journal.resume_with}"
        require(resumable(journal), own)
        require(steps is None or 0 < steps <= MOST_STEPS, f"steps are a positive number, got {steps}")
        done, planned = journal.status["steps"], journal.info["steps"]
        more = done < planned if steps is None else steps > done
        require(more, f"it has {done:,} steps: to go on, give more than these")
        words = [sys.executable, "-m", "thorndike", "resume", str(path)] + (["--steps", str(steps)] if steps else [])
        self.asked.pop(path, None)
        self.since[path] = time.time()
        self.begun[path] = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=(log := _log(path)), stderr=log, start_new_session=True
        )
        os.close(log)
        return "going on from the newest checkpoint"

    def state(self, path: Path, state: str) -> str:
        """The state of a run, and what was asked of it here and is not done yet."""
        if state == "running":
            asked = path in self.asked and self.asked[path] == (self._running(path) or trainer(path))
            return "running, told to stop" if asked else state
        with contextlib.suppress(OSError):
            if self._running(path) is not None and (path / "status.json").stat().st_mtime < self.since[path]:
                return "starting"
        return state

    def failed(self, path: Path) -> str:
        """What `thorndike resume` said where it was begun here and has failed; "" otherwise."""
        process = self.begun.get(path)
        if process is None or process.poll() in (None, 0):
            return ""
        with contextlib.suppress(OSError):
            said = (path / LOG).read_text("utf-8", "replace")[-SAID:].strip().splitlines()
            errors = [line for line in said if line.startswith("error: ")]
            return errors[-1] if errors else "\n".join(said[-5:])
        return f"it ended with exit code {process.returncode}"

    def _running(self, path: Path) -> int | None:
        """The process that was begun here, while it runs."""
        process = self.begun.get(path)
        return process.pid if process is not None and process.poll() is None else None


def resumable(journal: Journal) -> bool:
    """Whether the directory says all that it takes: what is one's own is imported where a user types it, never here."""
    own = journal.own_types or "object" in journal.environment or ":" in journal.environment["id"]
    return not own


@contextlib.contextmanager
def _handle(pid: int) -> Any:
    """A function that sends a process what Ctrl-C sends; to that process alone, if the system can hold on to it."""
    try:
        held = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        try:
            yield lambda: os.kill(pid, signal.SIGINT) if held is None else signal.pidfd_send_signal(held, signal.SIGINT)
        finally:
            if held is not None:
                os.close(held)
    except ProcessLookupError:
        raise ConfigError("it has just ended") from None


def _log(path: Path) -> int:
    """The run's log, opened to be added to; never behind a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        file = os.open(path / LOG, flags, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot write {path / LOG}: {error.strerror}") from None
    os.write(file, f"--- {time.strftime('%Y-%m-%dT%H:%M:%S')} thorndike resume\n".encode())
    return file
