"""What changes, as server-sent events: the list of runs, or the curves and states of chosen ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
from anyio.to_thread import run_sync

from thorndike.errors import CheckpointError, ConfigError
from thorndike.runs.results.listing import COLUMNS, cells
from thorndike.runs.storage.metrics import newest
from thorndike.ui.folder import Folder, describe
from thorndike.ui.follow import Follower
from thorndike.ui.processes import Processes, resumable

EVERY = 1.0  # seconds between two looks at the files
QUIET = 15.0  # seconds, after which something is sent: it shows whether anybody still listens

ENDED = ("interrupted", "finished", "diverged", "failed")  # states of runs that may go on


class Stream:
    """Looks at the files again and again, and tells what is other than it was."""

    def __init__(self, folder: Folder, processes: Processes, names: list[str]):
        """`names` are those of the runs whose curves are followed; without any it is the list of all runs."""
        self.folder, self.processes, self.names = folder, processes, names
        self.followers = {name: Follower(folder.run(name) / "metrics.jsonl") for name in names}
        self.told: dict[str, Any] = {}

    def look(self) -> Iterator[str]:
        """The events since the last look."""
        if not self.names:
            yield from self._if_other("runs", [self.line(record) for record in self.folder.records()])
        for name, follower in self.followers.items():
            anew, rows = follower.read()
            if anew:
                yield event("anew", {"run": name})
            if rows:
                yield event("rows", {"run": name, "rows": rows})
            yield from self._if_other("state", self.state(name), name)

    def _if_other(self, kind: str, data: Any, of: str = "") -> Iterator[str]:
        if self.told.get(of) != data:
            self.told[of] = data
            yield event(kind, data)

    def line(self, record: dict[str, Any]) -> dict[str, Any]:
        """A run's line in the list."""
        if record["error"] is not None:
            return {"run": record["name"], "error": record["error"]}
        said = cells(record)
        state = self.processes.state(self.folder.path / record["name"], record["state"])
        said |= {"run": record["name"], "state": said["state"].replace(record["state"], state, 1)}
        return {"run": record["name"], "cells": [said[name] for name in COLUMNS]}

    def state(self, name: str) -> dict[str, Any]:
        """Where a run stands, what can be done with it, and its newest picture."""
        try:
            journal = self.folder.journal(name)
            status, path = journal.status, journal.path
            state = self.processes.state(path, str(status["state"]))
            row = newest(path / "metrics.jsonl") if status["state"] == "running" else None
            steps = max(int(status["steps"]), row["steps"] if row else 0)  # status.json is as old as the checkpoint
            pictures = self.folder.pictures(name)[:1]
            changed = [(path / file).stat().st_mtime for file in pictures]
            return {
                "run": name,
                "state": state,
                "at": f" at {steps:,} of {journal.info['steps']:,} steps",
                "said": self.processes.failed(path) or str(status.get("error", "") or status.get("stopped", "")),
                "can": "stop" if state == "running" else "resume" if state in ENDED and resumable(journal) else "",
                "picture": [pictures[0], changed[0]] if pictures else None,
            }
        except (CheckpointError, ConfigError, OSError, TypeError, ValueError, OverflowError) as error:
            return {"run": name, "state": "broken", "at": "", "said": describe(error), "can": "", "picture": None}


def event(kind: str, data: Any) -> str:
    """One event. JSON has no line breaks of its own, so that no text ends it."""
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"


async def events(stream: Stream, going: Callable[[], bool]) -> AsyncIterator[str]:
    """All events while `going()`; the first says that what the page had is to be forgotten."""
    yield event("hello", {})
    quiet = 0.0
    while going():
        found = await run_sync(lambda: list(stream.look()))
        for one in found:
            yield one
        quiet = 0.0 if found else quiet + EVERY
        if quiet >= QUIET:
            quiet = 0.0
            yield ": nothing\n\n"
        await anyio.sleep(EVERY)
