"""Where a training can start from: the arrays of another run, of an agent or of a safetensors file, by their paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thorndike.configuration import type_name
from thorndike.errors import CheckpointError, ConfigError
from thorndike.runs.results.agent import Agent, contents
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.arrays import to_arrays
from thorndike.runs.storage.journal import Journal


class Source(NamedTuple):
    """Arrays that another training has left."""

    name: str  # how messages call it
    arrays: dict[str, np.ndarray]  # by dotted path, "policy.torso.mlp.layers.0.weight"; leaves [S, ...]
    kind: str  # the algorithm whose whole state this is, its `type_name`; "" where it is something else
    told: bool  # whether it would have observation statistics if it had needed any
    diverged: dict[int, int]  # which of the S agents have diverged, at which step
    record: dict[str, Any]  # what `run.json` keeps of it

    @property
    def agents(self) -> int:
        """How many agents these are of."""
        return next(iter(self.arrays.values())).shape[0]


def dotted(path: str) -> str:
    """A tree path as JAX spells it, or a name of another library, with dots alone: ".layers[0].w" is "layers.0.w"."""
    return re.sub(r"\[['\"]?(.*?)['\"]?\]", r".\1", path).strip(".")


def source_of(start: Any) -> Source:
    """What `td.train(start=...)` names: a run, an agent, or a path of either, or of a plain safetensors file.

    Raises:
        CheckpointError: it is damaged, or is not there.
        ConfigError: it is nothing of these.
    """
    if isinstance(start, Agent):
        record = {"agent": type(start.algorithm).__name__, "environment": start.spec.id}
        return _alone(f"the agent {start!r}", to_arrays(start.actor), record)
    if hasattr(start, "journal"):
        return _of_run(start.journal)
    if not isinstance(start, (str, Path)):
        raise ConfigError(f"start must be a run, an agent, or a path of either, got {start!r}")
    path = Path(start).expanduser()
    if (path / "run.json").is_file():
        return _of_run(Journal(path))
    if path.is_dir():
        raise CheckpointError(f"there is no run at {path}: no run.json in it")
    arrays, about = contents(path)
    record = {"file": str(path.resolve())}
    if about is None:
        return _alone(str(path), arrays, record)._replace(told=False)
    return _alone(f"the agent in {path}", arrays, record | {"environment": about["spec"]["id"]})


def _alone(name: str, arrays: dict[str, np.ndarray], record: dict[str, Any]) -> Source:
    if not arrays:
        raise ConfigError(f"{name} has no arrays: there is nothing to start from")
    return Source(name, {dotted(path): x[None] for path, x in arrays.items()}, "", True, {}, record)


def _of_run(journal: Journal) -> Source:
    found = checkpoint.load_newest(journal.path / "checkpoints", checkpoint.AGENT)
    if found is None:
        raise CheckpointError(f"{journal.path} has no checkpoint yet: there is nothing to start from")
    arrays, meta, _ = found
    step = max(checkpoint.steps(journal.path / "checkpoints"))
    record = {"run": str(journal.path), "steps": step, "environment": journal.environment["id"]}
    named = {dotted(path.removeprefix(checkpoint.AGENT)): x for path, x in arrays.items()}
    diverged = {int(run): at for run, at in meta.get("diverged", {}).items()}
    return Source(f"{journal.shell_path} at step {step:,}", named, journal.settings["type"], True, diverged, record)


def is_of(source: Source, algorithm: Any) -> bool:
    """Whether the source may be the whole state of such an algorithm."""
    return source.kind == type_name(type(algorithm))
