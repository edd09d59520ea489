"""Where metrics can also go: functions for `td.train(..., on_row=[...])`.

    td.train("ppo", "CartPole-v1", on_row=td.sinks.WandB(project="poles"))

Each begins with the first row of a training and ends with it. Where it cannot begin, that is said, and training goes on
without it. A run that goes on with `td.resume(path, on_row=...)` goes on in the same place; rows that are written again
then are written again here.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from thorndike.extras import importing
from thorndike.files import read_json, write_json
from thorndike.settings import flat

KNOWN = {"wandb": "WandB", "mlflow": "MLflow", "tensorboard": "TensorBoard"}  # what the command line calls them


def named(name: str) -> Any:
    """The sink that the command line calls `name`, with its defaults."""
    return globals()[KNOWN[name]]()


class WandB:
    """Weights & Biases: one of its runs for each training.

    Where several agents are trained side by side, a metric is their mean, and each agent's own is beside it.
    """

    def __init__(self, project: str | None = None, **options: Any):
        """Args:
            project: by default what the environment variable WANDB_PROJECT says.
            **options: of `wandb.init`, such as entity, group, tags, name or mode.

        Raises `MissingExtraError`.
        """
        self.wandb = _package("wandb", "Weights & Biases")
        self.options = {"project": project, **options}
        self.session: Any = None

    def __call__(self, run: Any, row: dict[str, Any]) -> None:
        """Log a row."""
        if self.session is None:
            self.session = False  # where it cannot begin, it is not tried again
            defaults = {"name": _called(run), "dir": str(run.path), "id": _remembered(run, "wandb"), "resume": "allow"}
            about = {"config": {**_settings(run, None), "seeds": run.seeds}}
            self.session = self.wandb.init(**{**defaults, **about, **self.options})
            self.session.define_metric("*", step_metric="steps")
            _remember(run, "wandb", self.session.id)
        if self.session:
            self.session.log({"steps": row["steps"], **_flat(run, row)})

    def close(self) -> None:
        """End its run."""
        if self.session:
            self.session.finish()
        self.session = None


class MLflow:
    """MLflow: one of its runs for each training, which is nested in the active one where there is one.

    Where several agents are trained side by side, a metric is their mean, and each agent's own is beside it.
    """

    def __init__(self, experiment: str | None = None, **options: Any):
        """Args:
            experiment: by default what the environment variable MLFLOW_EXPERIMENT_NAME says.
            **options: of `mlflow.start_run`, such as run_name, tags or description.

        Raises `MissingExtraError`.
        """
        self.mlflow = _package("mlflow", "MLflow")
        self.experiment, self.options = experiment, options
        self.id: str | None = None

    def __call__(self, run: Any, row: dict[str, Any]) -> None:
        """Log a row."""
        if self.id is None:
            self.id = ""  # where it cannot begin, it is not tried again
            if self.experiment is not None:
                self.mlflow.set_experiment(self.experiment)
            known = _remembered(run, "mlflow")
            how = {"run_id": known} if known else {"run_name": _called(run), **self.options}
            self.id = self.mlflow.start_run(nested=self.mlflow.active_run() is not None, **how).info.run_id
            if not known:  # which cannot be written twice
                self.mlflow.log_params({**_settings(run, None), "seeds": run.seeds})
            _remember(run, "mlflow", self.id)
        if self.id:
            self.mlflow.log_metrics(_flat(run, row), step=row["steps"])

    def close(self) -> None:
        """End its run."""
        if self.id:
            self.mlflow.end_run()
        self.id = None


class TensorBoard:
    """TensorBoard's files in the folder `tensorboard` of the run's directory: `tensorboard --logdir runs`.

    Each agent is a run of its own there, with its hyperparameters. What is written again after a resume takes the place
    of what was there.
    """

    def __init__(self) -> None:
        """Raises `MissingExtraError`."""
        self.library = _package("tensorboardX", "TensorBoard logs")
        self.writers: list[Any] = []

    def __call__(self, run: Any, row: dict[str, Any]) -> None:
        """Write a row."""
        cells = {name: cell for name, cell in row.items() if name != "steps"}
        if not self.writers:
            for i in range(run.runs):
                folder = run.path / "tensorboard" / (_label(run, i) if run.runs > 1 else "")
                again = any(folder.glob("*tfevents*")) if folder.is_dir() else False
                self.writers.append(self.library.SummaryWriter(str(folder), purge_step=row["steps"]))
                if not again:
                    self.hyperparameters(self.writers[-1], _settings(run, i), list(cells))
        for name, cell in cells.items():
            for i, writer in enumerate(self.writers):
                value = cell[i] if isinstance(cell, list) else cell
                if value is not None:
                    writer.add_scalar(name, value, row["steps"])

    def hyperparameters(self, writer: Any, settings: dict[str, Any], names: list[str]) -> None:
        """Hyperparameters beside the curves of the same run; `SummaryWriter.add_hparams` would make another one."""
        summary = importlib.import_module("tensorboardX.summary")
        plain = {name: x if isinstance(x, (bool, int, float, str)) else str(x) for name, x in settings.items()}
        for event in summary.hparams(plain, dict.fromkeys(names, 0.0)):
            writer.file_writer.add_summary(event)

    def close(self) -> None:
        """Flush and close the files."""
        for writer in self.writers:
            writer.close()
        self.writers = []


def _package(name: str, what: str) -> Any:
    """Raises `MissingExtraError`."""
    with importing(name, what):
        return importlib.import_module(name)


def _called(run: Any) -> str:
    return run.info["name"] or run.path.name


def _label(run: Any, i: int) -> str:
    """An agent's seed and swept hyperparameters, in letters that all of these take: "seed_0 learning_rate_0.001"."""
    return " ".join(f"{name}_{value:g}" for name, value in run.members()[i].items())


def _flat(run: Any, row: dict[str, Any]) -> dict[str, float]:
    """The numbers of a row that are known; of several agents their mean, and each one's under its label."""
    found: dict[str, float] = {}
    for name, cell in row.items():
        if name == "steps" or cell is None:
            continue
        if not isinstance(cell, list):
            found[name] = cell
            continue
        known = {i: value for i, value in enumerate(cell) if value is not None}
        if known:
            found[name] = math.fsum(known.values()) / len(known)
        found |= {f"{name} {_label(run, i)}": value for i, value in known.items()}
    return found


def _settings(run: Any, i: int | None) -> dict[str, Any]:
    """The environment and the algorithm's settings by dotted names; those of agent `i` where one is asked for."""
    found = {"environment": run.info["environment"]["id"], "algorithm": run.journal.name}
    found |= flat(run.info["algorithm"])
    return found if i is None else {**found, **run.members()[i]}


def _file(run: Any) -> Path:
    return run.path / "sinks.json"


def _remembered(run: Any, sink: str) -> str | None:
    """What a run is called elsewhere; None where it is not there yet."""
    return read_json(_file(run)).get(sink) if _file(run).is_file() else None


def _remember(run: Any, sink: str, name: str) -> None:
    known = read_json(_file(run)) if _file(run).is_file() else {}
    if known.get(sink) != name:
        write_json(_file(run), {**known, sink: name})
