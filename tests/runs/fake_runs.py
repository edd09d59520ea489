"""Run folders as training leaves them, without any training: `run.json`, `status.json` and `metrics.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import thorndike as td
from thorndike.configuration import from_json, to_json
from thorndike.exports import known_configs
from thorndike.presets import based_on

INFO = {
    "format": 1, "log_every": 1, "checkpoint_every": 60.0, "keep": 3, "tensorboard": False, "workers": "auto",
    "env_timeout": 60.0, "on_env_error": "raise", "versions": {},
}  # fmt: skip


def settings(algorithm: str = "PPO", env: str = "", **changes: Any) -> dict[str, Any]:
    """What `run.json` says of an algorithm: the defaults, with the preset for `env`, with changes."""
    cls = getattr(td, algorithm, None)
    if cls is None:
        return {"type": algorithm, **changes}
    data = to_json(td.preset(cls, env) if hasattr(cls, "act") else cls())
    return {**json.loads(json.dumps(data)), **changes}


def based(algorithm: dict[str, Any], env: str) -> dict[str, Any]:
    """What `run.json` says of how they differ from preset or defaults."""
    try:
        base, changed = based_on(from_json(algorithm, known_configs()), env)
    except td.ConfigError:
        base, changed = "", {}
    return {"base": base, "changed": json.loads(json.dumps(changed))}


def make(
    path: Path,
    algorithm: dict[str, Any] | str = "PPO",
    env: str = "CartPole-v1",
    columns: dict[str, Any] | None = None,
    seed: int = 0,
    seeds: int = 1,
    sweep: dict[str, list[float]] | None = None,
    state: str = "finished",
    made: str = "2026-01-02T03:04:05",
    dataset: str | None = None,
    fields: dict[str, Any] | None = None,
) -> Path:
    """A run with these metrics: "steps" [N], every other tag [N] or [N, R]; by default returns that rise."""
    sweep = sweep or {}
    runs = seeds * len(next(iter(sweep.values()), [0]))
    if columns is None:
        columns = {"rollout/ep_rew_mean": np.linspace(10, 400, 20)[:, None] + np.arange(runs)}
    n = len(next(iter(columns.values())))
    columns = {"steps": 1000 * np.arange(1, n + 1)} | columns
    columns |= {"time/seconds": 0.1 * np.arange(1, n + 1)} if "time/seconds" not in columns else {}
    algorithm = settings(algorithm) if isinstance(algorithm, str) else algorithm
    kind = {"fields": {"type": "GridWorld", **fields}} if fields is not None else {"kwargs": {}}
    steps = int(columns["steps"][-1])
    info = {
        **INFO, **based(algorithm, env), "algorithm": algorithm | sweep, "environment": {"id": env, **kind},
        "sweep": sweep, "steps": steps, "seed": seed, "seeds": seeds, "dataset": dataset, "made": made,
    }  # fmt: skip
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(info))
    last = np.ravel(np.asarray(columns.get("rollout/ep_rew_mean", [np.nan]), float)[-1])
    status = {"state": state, "steps": steps, "seconds": 1.0, "return_mean": plain(last)}
    (path / "status.json").write_text(json.dumps(status))
    with (path / "metrics.jsonl").open("w") as file:
        for i in range(n):
            row = {name: plain(np.asarray(values, object)[i]) for name, values in columns.items()}
            file.write(json.dumps({name: value for name, value in row.items() if value is not None}) + "\n")
    return path


def plain(value: Any) -> Any:
    """As JSON; NaN is None."""
    if isinstance(value, np.ndarray):
        return [plain(x) for x in value]
    if isinstance(value, (int, np.integer)):
        return int(value)
    return None if np.isnan(value) else float(value)
