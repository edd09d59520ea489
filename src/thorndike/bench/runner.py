"""Run the rows of a suite that are not done yet, each in a process of its own, and keep a line of JSON for each."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from typing import Any

from thorndike.bench.row import Row

Record = dict[str, Any]


def records(out: Path) -> dict[str, Record]:
    """The newest record of each row in `out`, by name. A line that was cut short is as if it were not there."""
    path, found = out / "rows.jsonl", {}
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            record = loads(line)
            found[record["name"]] = record
        except (JSONDecodeError, KeyError, TypeError):
            continue
    return found


def done(row: Row, found: dict[str, Record]) -> bool:
    """Whether this very row has been measured; one that failed, or was changed since, has not."""
    record = found.get(row.name, {})
    return "scores" in record and record.get("row") == loads(dumps(row.to_json()))


def run(suite: str, rows: list[Row], out: Path, workers: int, told: Callable[[str, Record], None]) -> None:
    """Measure the rows that are not done, `workers` at a time.

    Args:
        suite: the name of their suite.
        rows: of that suite.
        out: the directory; `rows.jsonl` grows by a line with each row that ends.
        workers: processes side by side, which share out the cores.
        told: called with the name and the record of each row that ends.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = records(out)
    waiting = iter([row for row in rows if not done(row, found)])
    lock, shares = threading.Lock(), cores(workers)
    alive: set[subprocess.Popen[str]] = set()
    stopped = threading.Event()

    def work(share: list[int]) -> None:
        if share and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, share)  # of this thread alone, and of the processes that it starts
        while not stopped.is_set():
            with lock:
                row = next(waiting, None)
                if row is None:
                    return
                process = started(suite, row, out)
                alive.add(process)
            printed, complaint = process.communicate()
            record = read(row, process.returncode, printed, complaint)
            with lock:
                alive.discard(process)
                if not stopped.is_set():
                    keep(record, out)
                    told(row.name, record)

    with ThreadPoolExecutor(len(shares)) as pool:
        try:
            for future in [pool.submit(work, share) for share in shares]:
                future.result()
        except BaseException:  # Ctrl-C: what is under way is not done
            stopped.set()
            with lock:
                for process in alive:
                    process.terminate()
            raise


def started(suite: str, row: Row, out: Path) -> subprocess.Popen[str]:
    """The process of one row. It has a session of its own: Ctrl-C is for the runner, which then ends it."""
    words = [sys.executable, "-m", "thorndike.bench.one", suite, row.name, str(out)]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(words, text=True, start_new_session=True, **streams)


def read(row: Row, code: int, printed: str, complaint: str) -> Record:
    """What the process of a row has to say, which is its last line."""
    try:
        return loads(printed.splitlines()[-1])
    except (IndexError, JSONDecodeError):
        why = (complaint.strip().splitlines() or [f"exit code {code}"])[-1]
        return {"name": row.name, "row": row.to_json(), "error": why}


def keep(record: Record, out: Path) -> None:
    """Add a line to `rows.jsonl`, after whatever was cut short there."""
    path = out / "rows.jsonl"
    cut = path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * bool(cut) + dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def cores(workers: int) -> list[list[int]]:
    """The cores that each worker has: all are shared out; of more workers than cores some have the same."""
    here = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [here[i::workers] or here[i % len(here) :][:1] if here else [] for i in range(workers)]
