"""Trials as a population: all settings of a round are one compiled program, and the better part of it goes on."""

from __future__ import annotations

import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thorndike.configuration import sweep_of, to_json, types_in
from thorndike.drivers.learner import steps_of
from thorndike.drivers.scan import devices_for, members_of
from thorndike.errors import CheckpointError, DivergedError
from thorndike.files import write_json
from thorndike.presets import based_on
from thorndike.runs.results.run import Run
from thorndike.runs.storage import checkpoint
from thorndike.runs.training.callbacks import STOP, Stop
from thorndike.runs.training.progress import tell
from thorndike.runs.training.resume import resume
from thorndike.runs.training.train import train
from thorndike.runs.tuning.fields import population_of
from thorndike.runs.tuning.folder import Journal
from thorndike.runs.tuning.halving import Round, Scores, Standing, halve
from thorndike.runs.tuning.scores import scores
from thorndike.text import near


class Until:
    """Ends training with the row of metrics at a step."""

    __name__ = "successive halving"

    def __init__(self, step: int):
        self.step = step

    def __call__(self, run: Run, row: dict[str, Any]) -> Stop | None:
        return STOP if row["steps"] >= self.step else None


class Population(NamedTuple):
    """What all rounds have in common."""

    algorithm: Any  # with numbers
    env: Any  # as it was given
    world: Any  # the environment itself
    settings: list[dict[str, Any]]  # of all trials
    plan: list[Round]
    folder: Path
    options: dict[str, Any]  # of `td.train`

    def run(self) -> list[Standing]:
        """Train it, or go on with what is in the folder; how the trials did, the best first."""
        return halve(self.plan, partial(advance, self))

    def path(self, i: int) -> Path:
        """The directory of the run that round i is."""
        return self.folder / f"round-{i + 1}"

    def place(self, best: Standing) -> tuple[Path, int]:
        """The run in which a trial was last, and its configuration there."""
        i = next(i for i, one in enumerate(self.plan) if one.until == best.steps)
        trials = sorted(
            line["trial"] for line in Journal(self.folder / "trials.jsonl").read() if line["round"] == i + 1
        )
        return self.path(i), trials.index(best.trial)


def advance(population: Population, i: int, trials: list[int]) -> Scores:
    """Let trials go on to the end of round i; their scores, from the journal where they are in it."""
    journal, until = Journal(population.folder / "trials.jsonl"), population.plan[i].until
    lines = {line["trial"]: line for line in journal.read() if line["round"] == i + 1}
    if set(trials) <= lines.keys():
        values = [math.nan if lines[trial]["score"] is None else lines[trial]["score"] for trial in trials]
        return Scores(np.array(values), np.array([lines[trial]["diverged"] for trial in trials]))
    if population.options["progress"] is not False:
        tell(f"round {i + 1} of {len(population.plan)}: {len(trials)} trials, to {until:,} steps")
    try:
        found = scores(trained(population, i, trials).journal, until)
    except DivergedError:  # all of them
        found = Scores(np.full(len(trials), np.nan), np.ones(len(trials), bool))
    each = zip(trials, found.values.tolist(), found.lost.tolist())
    journal.append(
        [
            {
                "trial": trial,
                "round": i + 1,
                "steps": until,
                "score": None if math.isnan(score) else score,
                "diverged": lost,
                "settings": population.settings[trial],
            }
            for trial, score, lost in each
        ]
    )
    return found


def trained(population: Population, i: int, trials: list[int]) -> Run:
    """The run of round i, trained to its end."""
    path, until, last = population.path(i), population.plan[i].until, i + 1 == len(population.plan)
    algorithm, world, options = population.algorithm, population.world, population.options
    on_row = None if last else Until(until)
    if not (path / "run.json").exists() and i == 0:
        every = None if last else row_every(until, steps_of(algorithm))
        steps = population.plan[-1].until
        sweep = population_of(algorithm, [population.settings[trial] for trial in trials])
        return train(sweep, population.env, steps, out=path, on_row=on_row, log_every=every, keep=1, **options)
    classes = types_in(algorithm) | types_in(world)
    if not (path / "run.json").exists():
        before = Run(population.path(i - 1), world, classes)
        there = sorted(
            line["trial"] for line in Journal(population.folder / "trials.jsonl").read() if line["round"] == i
        )
        part(before, [there.index(trial) for trial in trials], path, population.plan[i - 1].until)
        shutil.rmtree(before.path / "checkpoints", ignore_errors=True)
    found = Run(path, world, classes)
    done = max(checkpoint.steps(path / "checkpoints"), default=0)
    if done > until:
        raise CheckpointError(f"{near(path)} was trained on to {done:,} steps: delete {near(population.folder)}")
    if done == until and found.status["state"] == "finished":
        return found
    if done == until and not last:  # it was killed just then
        return found
    return resume(path, env=world, classes=classes, progress=options["progress"], on_row=on_row)


def row_every(until: int, chunk: int) -> int:
    """Steps between rows of metrics, such that one is at the end of the first round, and so of all others."""
    rollouts = until // chunk
    return chunk * next(rollouts // k for k in (4, 3, 2, 1) if rollouts % k == 0)


def part(run: Run, configurations: list[int], path: Path, step: int) -> None:
    """Make a run of some of the configurations of another one, which go on from where they are.

    Raises:
        CheckpointError: the other run has no whole checkpoint at this step, or the disk refuses.
    """
    found, meta = checkpoint.load(checkpoint.place(run.path / "checkpoints", step))
    rows = (np.array(configurations)[:, None] * run.seeds + np.arange(run.seeds)).ravel()
    meta = meta | {"devices": devices_for(len(rows)), "seconds": 0.0, "timed": 0, "diverged": {}}
    checkpoint.save_arrays(path / "checkpoints", step, {name: x[rows] for name, x in found.items()}, meta)
    algorithm = members_of(run.algorithm, np.array(configurations))
    base, changed = based_on(algorithm, run.info["environment"]["id"])
    about = {"algorithm": to_json(algorithm), "sweep": sweep_of(algorithm, run.env), "base": base, "changed": changed}
    write_json(path / "run.json", run.info | about)
