"""The runs in a folder, as records and as a table. Nothing but what runs wrote about themselves is read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from thorndike.errors import CheckpointError, ConfigError
from thorndike.runs.storage.journal import Journal
from thorndike.runs.storage.metrics import newest
from thorndike.settings import spell
from thorndike.text import duration, near, score

RETURN = "rollout/ep_rew_mean"
LEFT = ("run.json", "metrics.jsonl")  # by either of which a run's folder is known
KEYS = (
    "path", "algorithm", "environment", "base", "changed", "sweep", "seed", "seeds", "steps", "planned", "return",
    "state", "made", "error",
)  # fmt: skip
COLUMNS = ("run", "algorithm", "environment", "settings", "steps", "return", "state", "age")
LEAST = 12  # characters of the settings, however narrow the table
RIGHT = ("steps", "return", "age")  # columns of numbers


def list_runs(folder: str | Path = "runs") -> list[dict[str, Any]]:
    """The runs in a folder and in the folders in it, the newest last; the folder itself, where it is a run.

    Args:
        folder: where to look.

    Returns:
        A dictionary for each run: "path"; "algorithm", its class; "environment", its id; "base", "preset" or "defaults"
        ("" for a class of your own), and "changed", the fields that differ from it, {name: value}; "sweep", {name:
        values}; "seed", "seeds"; "steps" done and "planned"; "return", the last mean of each agent, None before an
        episode has ended; "state" as in `Run.status`; "made", the seconds since 1970 at which it began; "error", None.
        Of a folder that cannot be read "state" is "broken", "error" says why, and the rest is None but for "path".

    Raises:
        ConfigError: there is no such folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: say where the runs are (thorndike runs DIR)")
    return sorted(map(_record, _folders(folder)), key=lambda record: (record["made"] or 0.0, record["path"]))


def _folders(folder: Path) -> Iterator[Path]:
    """Those of runs. What is in a run's folder is not looked at, nor are hidden ones and links."""
    for path, inner, names in os.walk(folder):
        if any(name in names for name in LEFT):
            inner.clear()
            yield Path(path)
        inner[:] = [name for name in inner if not name.startswith(".")]


def _record(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = {**dict.fromkeys(KEYS), "path": str(path), "state": "broken"}
    try:
        journal = Journal(path)
        status = journal.status
        row = newest(path / "metrics.jsonl") if status["state"] == "running" else None
    except (CheckpointError, OSError) as error:
        return record | {"error": str(error)}
    steps, returns = status["steps"], status.get("return_mean")
    if row is not None and row["steps"] >= steps:  # status.json is as old as the newest checkpoint
        steps, returns = row["steps"], row.get(RETURN)
    returns = returns if isinstance(returns, list) else [returns]
    return record | {
        "algorithm": journal.name,
        "environment": journal.environment["id"],
        "base": journal.base,
        "changed": {name: value for name, value in journal.changed.items() if name not in journal.swept},
        "sweep": journal.swept,
        "seed": journal.seed,
        "seeds": journal.seeds,
        "steps": steps,
        "planned": journal.info["steps"],
        "return": None if all(x is None for x in returns) else returns,
        "state": status["state"],
        "made": _made(journal),
    }


def _made(journal: Journal) -> float:
    """When the run began, in seconds since 1970."""
    try:
        return time.mktime(time.strptime(journal.info["made"], "%Y-%m-%dT%H:%M:%S"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return (journal.path / "run.json").stat().st_mtime


def table(records: list[dict[str, Any]], width: int) -> str:
    """The records as lines of text, of at most `width` characters where it is enough to cut the settings."""
    rows = [dict(zip(COLUMNS, COLUMNS)), *map(_cells, records)]
    widths = {name: max(len(row.get(name, "")) for row in rows) for name in COLUMNS}
    over = sum(widths.values()) + 2 * (len(COLUMNS) - 1) - width
    widths["settings"] = max(min(widths["settings"], LEAST), widths["settings"] - max(over, 0))
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: dict[str, str], widths: dict[str, int]) -> str:
    if "error" in row:
        return f"{row['run']:{widths['run']}}  broken: {row['error']}"
    cells = [row[name] if len(row[name]) <= size else f"{row[name][: size - 3]}..." for name, size in widths.items()]
    padded = [
        f"{cell:>{widths[name]}}" if name in RIGHT else f"{cell:{widths[name]}}" for name, cell in zip(widths, cells)
    ]
    return "  ".join(padded).rstrip()


def _cells(record: dict[str, Any]) -> dict[str, str]:
    """What a line of the table says of a run."""
    if record["error"] is not None:
        return {"run": near(Path(record["path"])), "error": record["error"]}
    swept = {name: list(values) for name, values in record["sweep"].items()}
    seeds = f"{record['seeds']} seeds" if record["seeds"] > 1 else f"seed {record['seed']}" if record["seed"] else ""
    base = record["base"] if record["base"] == "preset" or not record["changed"] | swept else ""
    done, planned = record["steps"], record["planned"]
    known = [x for x in record["return"] or [] if x is not None]
    earned = [min(known), max(known)] if known and swept else [fmean(known)] if known else []
    return {
        "run": near(Path(record["path"])),
        "algorithm": record["algorithm"],
        "environment": record["environment"],
        "settings": ", ".join(filter(None, [base, spell(record["changed"] | swept), seeds])),
        "steps": f"{done:,}" if done >= planned else f"{done:,} of {planned:,}",
        "return": " to ".join(map(score, earned)) or "-",
        "state": record["state"],
        "age": duration(time.time() - record["made"]),
    }
