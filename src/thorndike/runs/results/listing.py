"""The runs in a folder, as records and as a table. Nothing but what runs wrote about themselves is read."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from thorndike.errors import CheckpointError, ConfigError
from thorndike.runs.storage.journal import Journal
from thorndike.runs.storage.metrics import newest
from thorndike.settings import spell
from thorndike.text import age, near, score

RETURN = "rollout/ep_rew_mean"
LEFT = ("run.json", "metrics.jsonl")  # by either of which a run's folder is known
KEYS = (
    "path", "algorithm", "environment", "base", "changed", "sweep", "seed", "seeds", "steps", "planned", "return",
    "best", "signs", "state", "made", "error",
)  # fmt: skip
COLUMNS = ("run", "algorithm", "environment", "settings", "steps", "return", "best", "state", "age")
ABOUT = ("algorithm", "environment", "settings")  # which have a line of their own where the table would be too wide
RIGHT = ("steps", "return", "best", "age")  # columns of numbers


def list_runs(folder: str | Path = "runs") -> list[dict[str, Any]]:
    """The runs in a folder and in the folders in it, the newest last; the folder itself, where it is a run.

    Args:
        folder: where to look.

    Returns:
        A dictionary for each run: "path"; "algorithm", its class; "environment", its id; "base", "preset" or "defaults"
        ("" for a class of your own), and "changed", the fields that differ from it, {name: value}; "sweep", {name:
        values}; "seed", "seeds"; "steps" done and "planned"; "return", the last mean of each agent, None before an
        episode has ended; "best", the mean return of the best evaluation while it trained, None without any; "signs" of
        trouble that training showed, by name; "state" as in `Run.status`; "made", the seconds since 1970 at which it
        began; "error", None. Of a folder that cannot be read "state" is "broken", "error" says why, "signs" is empty,
        and the rest is None but for "path".

    Raises:
        ConfigError: there is no such folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: say where the runs are (thorndike runs DIR)")
    return sorted(map(record_of, folders(folder)), key=lambda record: (record["made"] or 0.0, record["path"]))


def folders(folder: Path) -> Iterator[Path]:
    """Those of runs. What is in a run's folder is not looked at, nor are hidden ones and links."""
    for path, inner, names in os.walk(folder):
        if any(name in names for name in LEFT):
            inner.clear()
            yield Path(path)
        inner[:] = [name for name in inner if not name.startswith(".")]


def record_of(path: Path) -> dict[str, Any]:
    """A run's record, as `list_runs` has it."""
    record: dict[str, Any] = {**dict.fromkeys(KEYS), "path": str(path), "signs": [], "state": "broken"}
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
        "best": _best(status),
        "signs": _signs(status),
        "state": status["state"],
        "made": _made(journal),
    }


def _best(status: dict[str, Any]) -> float | None:
    best = status.get("best")
    value = best.get("mean_reward") if isinstance(best, dict) else None
    return float(value) if isinstance(value, (int, float)) else None


def _signs(status: dict[str, Any]) -> list[str]:
    warnings = status.get("warnings")
    found = [x.get("sign") for x in warnings if isinstance(x, dict)] if isinstance(warnings, list) else []
    return [sign for sign in found if isinstance(sign, str)]


def _without(error: str, path: str) -> str:
    """An error without the path, which the line begins with."""
    return error.replace(f"{Path(path).absolute()}/", "").replace(f"{Path(path).absolute()}", "it")


def _made(journal: Journal) -> float:
    """When the run began, in seconds since 1970."""
    try:
        return time.mktime(time.strptime(journal.info["made"], "%Y-%m-%dT%H:%M:%S"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return (journal.path / "run.json").stat().st_mtime


def table(records: list[dict[str, Any]], width: int) -> str:
    """The records as lines of text: one for each where that fits into `width` characters, else two, without columns for
    algorithm, environment and settings. Settings that are still too long are cut."""
    rows = [dict(zip(COLUMNS, COLUMNS)), *map(cells, records)]
    whole = [row for row in rows if "error" not in row]
    columns = [name for name in COLUMNS if name != "best" or any(row["best"] for row in whole[1:])]
    widths = {name: max((len(row[name]) for row in whole), default=0) for name in columns}
    widths["run"] = max(len(row["run"]) for row in rows)
    if sum(widths.values()) + 2 * (len(widths) - 1) <= width:
        return "\n".join(_line(row, widths, width) for row in rows)
    about = {name: widths.pop(name) for name in ABOUT}
    lines = []
    for i, row in enumerate(rows):
        lines.append(_line(row, widths, width))
        if i and "error" not in row:
            what = ": ".join(filter(None, [f"{row['algorithm']} on {row['environment']}", row["settings"]]))
            lines.append(_cut(f"    {what}", max(width, min(sum(about.values()), 40))))
    return "\n".join(lines)


def _line(row: dict[str, str], widths: dict[str, int], width: int) -> str:
    if "error" in row:
        return _cut(f"{row['run']:{widths['run']}}  broken: {row['error']}", width)
    padded = [f"{row[n]:>{size}}" if n in RIGHT else f"{row[n]:{size}}" for n, size in widths.items()]
    return "  ".join(padded).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."


def signs_of(records: list[dict[str, Any]]) -> str:
    """What is said below the table where training has shown signs of trouble; "" where it has not."""
    seen = [shlex.quote(near(Path(record["path"]))) for record in records if record["signs"]]
    return f"signs of trouble: thorndike doctor {' '.join(seen)}" if seen else ""


def cells(record: dict[str, Any]) -> dict[str, str]:
    """What a line of the table says of a run."""
    if record["error"] is not None:
        return {"run": near(Path(record["path"])), "error": _without(record["error"], record["path"])}
    swept = {name: list(values) for name, values in record["sweep"].items()}
    seeds = f"{record['seeds']} seeds" if record["seeds"] > 1 else f"seed {record['seed']}" if record["seed"] else ""
    base = record["base"] if record["base"] == "preset" or not record["changed"] | swept else ""
    done, planned = record["steps"], record["planned"]
    known = [x for x in record["return"] or [] if x is not None]
    signs = len(record["signs"])
    earned = [min(known), max(known)] if known and swept else [fmean(known)] if known else []
    return {
        "run": near(Path(record["path"])),
        "algorithm": record["algorithm"],
        "environment": record["environment"],
        "settings": ", ".join(filter(None, [base, spell(record["changed"] | swept), seeds])),
        "steps": f"{done:,}" if done >= planned else f"{done:,} of {planned:,}",
        "return": " to ".join(map(score, earned)) or "-",
        "best": "" if record["best"] is None else score(record["best"]),
        "state": record["state"] + (f", {signs} sign{'s' * (signs > 1)}" if signs else ""),
        "age": age(time.time() - record["made"]),
    }
