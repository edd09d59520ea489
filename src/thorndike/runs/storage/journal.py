"""What a run's directory says of itself, read without any class: settings, where it stands, and metrics."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import CheckpointError
from thorndike.files import read_json
from thorndike.own_modules import as_typed
from thorndike.runs.storage import episodes
from thorndike.runs.storage.directory import trained
from thorndike.runs.storage.metrics import read, table
from thorndike.text import near

FORMAT = 1
SETTINGS: dict[str, Any] = {  # of run.json that resuming needs
    "steps": int,
    "log_every": int,
    "checkpoint_every": (int, float),
    "keep": int,
    "tensorboard": bool,
    "workers": str,
    "env_timeout": (int, float),
    "on_env_error": str,
    "sweep": dict,
    "base": str,
    "changed": dict,
}

LATER: dict[str, tuple[Any, Any]] = {  # what older versions did not write: kinds, and what it was then
    "name": ((str, type(None)), None),
    "evaluate_every": ((int, type(None)), None),
    "evaluate_episodes": (int, 20),
    "checkpoint_steps": ((int, type(None)), None),
    "stop_at": ((int, float, type(None)), None),
    "patience": ((int, type(None)), None),
    "start": ((dict, type(None)), None),
    "history": (list, []),
}


class Journal:
    """A run directory as plain data: enough to list, plot and compare runs, whatever classes they are of."""

    def __init__(self, path: str | Path):
        """Read the description of the run at `path`.

        Raises:
            CheckpointError: there is no run, or its description is damaged.
        """
        self.path = Path(path).expanduser().absolute()  # whatever the working directory will be
        if self.path.is_file():
            raise CheckpointError(
                f"{self.path} is a file, and a run is a directory with a run.json; an agent's file is opened by td.load"
            )
        if not (self.path / "run.json").is_file():
            raise CheckpointError(f"there is no run at {self.path}: no run.json in it")
        self.info = read_json(self.path / "run.json")
        try:
            if self.info["format"] != FORMAT:
                raise CheckpointError(f"{self.path} has format {self.info['format']}, this version reads {FORMAT}")
            self.seed, self.seeds = int(self.info["seed"]), int(self.info["seeds"])
            self.settings, self.environment = self.info["algorithm"], self.info["environment"]
            kinds = {**SETTINGS, **{name: kind for name, (kind, _) in LATER.items()}}
            self.info = {**{name: default for name, (_, default) in LATER.items()}, **self.info}
            for name, kind in kinds.items():
                if not isinstance(self.info[name], kind):
                    raise TypeError(f"{name} is {self.info[name]!r}")
            if not isinstance(self.environment["id"], str) or not isinstance(self.settings["type"], str):
                raise TypeError("it names no algorithm and environment")
            self.base: str = self.info["base"]  # "preset", "defaults", or "" for a class of one's own
            self.changed: dict[str, Any] = self.info["changed"]  # flat settings that differ from that
            self.swept: dict[str, list[float]] = self.info["sweep"]
            self.configurations = len(next(iter(self.swept.values()), [0]))  # of a sweep; 1 without one
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{self.path / 'run.json'} is not the description of a run: {error}") from None

    @property
    def name(self) -> str:
        """What the algorithm is called: its class."""
        return self.settings["type"].removeprefix("own ")

    @property
    def runs(self) -> int:
        """How many agents are trained side by side: seeds times configurations of a sweep."""
        return self.seeds * self.configurations

    def members(self) -> list[dict[str, Any]]:
        """Seed and swept hyperparameters of each of the runs, in the order of every per-run result."""
        return [
            {
                "seed": self.seed + i % self.seeds,
                **{name: values[i // self.seeds] for name, values in self.swept.items()},
            }
            for i in range(self.runs)
        ]

    @property
    def status(self) -> dict[str, Any]:
        """{"state": "new" | "running" | "finished" | "interrupted" | "diverged" | "failed", "steps", "seconds", ...}.

        A run whose process is gone without a word is "interrupted" too.
        """
        path = self.path / "status.json"
        try:
            status = read_json(path) if path.exists() else {"state": "new", "steps": 0, "seconds": 0.0}
        except CheckpointError:
            status = None
        if not isinstance(status, dict) or not {"state", "steps", "seconds"} <= status.keys():
            raise CheckpointError(f"{path} is damaged: delete it, and resume the run")
        gone = status["state"] == "running" and not trained(self.path)
        return {**status, "state": "interrupted"} if gone else status

    def metrics(self) -> dict[str, np.ndarray]:
        """All that was logged: "steps" [N], and every other tag [N, runs]."""
        return table(read(self.path / "metrics.jsonl"))

    def episodes(self) -> dict[str, np.ndarray]:
        """All training episodes: "step" (of the run, when it ended), "return", "length" and "member", each [N]."""
        found = episodes.read(self.path / "episodes.bin")
        kinds = {"step": int, "return": float, "length": int, "member": int}
        return {name: found[name].astype(kind) for name, kind in kinds.items()}

    @property
    def shell_path(self) -> str:
        """The directory as a command line takes it."""
        return shlex.quote(near(self.path))

    @property
    def shell(self) -> str:
        """What follows `thorndike COMMAND`: the directory, and the environment where it is in a module of its own."""
        name = self.environment["id"]
        own = "object" not in self.environment and ":" in name
        return self.shell_path + (f" --env {as_typed(name)}" if own else "")

    @property
    def own_types(self) -> set[str]:
        """What `type_name` calls the classes of one's own that the settings name."""
        return {name for name in _types(self.settings) if name.startswith("own ")}

    @property
    def resume_with(self) -> str:
        """How to go on with it: where something of your own takes part, the command line does not know that."""
        given = [", env=..."] * ("object" in self.environment) + [", classes=[...]"] * bool(self.own_types)
        return f"td.resume({str(self.path)!r}{''.join(given)})" if given else f"thorndike resume {self.shell}"


def _types(settings: Any) -> set[str]:
    """What `to_json`'s data calls the classes in it."""
    if isinstance(settings, list):
        return set().union(*map(_types, settings))
    if not isinstance(settings, dict):
        return set()
    return {str(settings.get("type"))}.union(*map(_types, settings.values()))
