"""`td.resume`: on from where a run stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thorndike.configuration import require, to_json
from thorndike.drivers.learner import steps_of
from thorndike.errors import CheckpointError
from thorndike.files import write_json
from thorndike.presets import based_on
from thorndike.runs.results.run import Run
from thorndike.runs.storage.directory import training
from thorndike.runs.storage.environments import describe_environment
from thorndike.runs.training.arguments import explained
from thorndike.runs.training.callbacks import functions_of
from thorndike.runs.training.changes import changed, entry, misfit, new_settings
from thorndike.runs.training.loop import Loop
from thorndike.runs.training.options import whole_steps
from thorndike.runs.training.progress import tell
from thorndike.runs.training.setup import driver_of, prepare_jax


@explained
def resume(
    path: str | Path,
    steps: int | None = None,
    env: Any = None,
    classes: Any = (),
    progress: bool | None = None,
    *,
    change: dict[str, Any] | None = None,
    on_row: Any = None,
) -> Run:
    """Go on with a run from its newest whole checkpoint.

    One that has stopped before its planned steps, by `stop_at`, `patience` or a function of `on_row`, goes on only
    where `steps` are given; what stopped it counts no more.

    On JAX environments the result is bit for bit that of a run that was never interrupted; on host environments all
    but the simulator is restored, and new episodes are begun.

    Args:
        path: the run's directory.
        steps: a new total, to train longer than was planned; schedules then run over the new total.
        env: the environment, where the run was made with an object of your own.
        classes: config classes of your own that the settings name.
        progress: as in `train`.
        change: other values for hyperparameters from here on: {"learning_rate": 1e-4, "replay.batch_size": 128}. Any
            number can change that is not swept; of other fields those that leave all arrays of the run's state as they
            are. The history in `run.json` keeps what changed, and at which step.
        on_row: as in `train`; what was given there has to be given again.

    Raises:
        ConfigError: a field cannot change so, and why; nothing is changed then.
    """
    prepare_jax()
    run = Run(path, env, classes)
    if env is not None:
        same_world(run)
    functions = functions_of(on_row, run.info["tensorboard"])
    with training(run.path):
        done, before, stopped = run.status["steps"], dict(run.info), run.status.get("stopped")
        if stopped and steps is None:
            require(not change, f"the run has stopped ({stopped}): to learn with other settings, give more steps")
            tell(f"the run has stopped at {done:,} steps ({stopped}): to go on, give it more steps than these")
            return run
        if steps is not None:
            steps, chunk = whole_steps(steps), 1 if run.info.get("dataset") else steps_of(run.algorithm)
            require(steps >= done, f"the run has {done} steps already, more than {steps}")
            run.info["steps"] = -(-steps // chunk) * chunk
            if stopped and steps > done:  # it would stop again at once
                run.info |= {name: None for name in ("stop_at", "patience") if stopped.startswith(name)}
        fields = new_settings(run, change) if change else {}
        over = done >= run.info["steps"]
        require(not (fields and over), f"the run has all of its {done} steps: to learn with other settings, give more")
        old, run.algorithm = run.algorithm, changed(run.algorithm, fields)
        with driver_of(run) as driver:
            try:
                found = run.state(driver)
            except CheckpointError as error:
                run.algorithm = old
                if not fields:
                    raise
                raise misfit(run, fields, error) from None
            if fields:
                at = 0 if found is None else found[1]["iterations"] * driver.chunk
                run.info["history"] = [*run.info["history"], entry(old, fields, at)]
                run.info["algorithm"] = to_json(run.algorithm)
                run.info["base"], run.info["changed"] = based_on(run.algorithm, run.info["environment"]["id"])
            if run.info != before:
                write_json(run.path / "run.json", run.info)
            Loop(run, driver, found, progress, functions).go()
    return run


def same_world(run: Run) -> None:
    """Raise `ConfigError` where the environment that was given is seen not to be the one that was trained in."""
    given, trained_in = describe_environment(run.env, None, {}).get("fields"), run.info["environment"].get("fields")
    same = given is None or trained_in is None or json.loads(json.dumps(given)) == trained_in
    require(same, f"this run was trained in {trained_in}, not in {given}: to go on elsewhere, start a new one")
