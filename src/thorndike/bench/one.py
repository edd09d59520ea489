"""Run one row in a process of its own, `python -m thorndike.bench.one SUITE NAME DIR`, and print its record as JSON."""

from __future__ import annotations

import shutil
import sys
import time
from json import dumps
from pathlib import Path
from typing import Any

from thorndike.bench.row import Row


def folder(row: Row, out: Path) -> Path:
    """The directory of a row's run, or of its runs."""
    return out / "rows" / row.name.replace("/", "-")


def measure(row: Row, out: Path) -> dict[str, Any]:
    """Train and measure one row; what an earlier, interrupted run of it left is removed."""
    import thorndike as td
    from thorndike.bench.measures import MEASURES

    path = folder(row, out)
    shutil.rmtree(path, ignore_errors=True)
    algorithm = td.preset(row.algorithm, row.env, **row.fields)
    alone = getattr(algorithm, "actors", 0) > 0  # actors in threads train one seed at a time
    scores: list[float] = []
    began, worked = time.monotonic(), time.process_time()
    for seed, seeds in [(i, 1) for i in range(row.seeds)] if alone else [(0, row.seeds)]:
        try:
            run = td.train(
                algorithm, row.env, row.planned, seed=seed, seeds=seeds, out=path / str(seed) if alone else path,
                env_kwargs=dict(row.env_kwargs), progress=False, keep=1,
            )  # fmt: skip
            scores += MEASURES[row.measure].of(run, row.episodes).tolist()
        except td.DivergedError:  # all of them
            scores += [float("nan")] * seeds
    return {
        "name": row.name,
        "row": row.to_json(),
        "scores": [None if x != x else x for x in scores],
        "seconds": round(time.monotonic() - began, 1),
        "cpu": round(time.process_time() - worked, 1),  # seconds of all cores together
        "made": time.strftime("%Y-%m-%d %H:%M"),
    }


def main(words: list[str]) -> int:
    """The command."""
    from thorndike.bench.rows import ROWS
    from thorndike.errors import ThorndikeError

    suite, name, out = words
    row = next(row for row in ROWS[suite] if row.name == name)
    try:
        print(dumps(measure(row, Path(out))))
    except ThorndikeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
