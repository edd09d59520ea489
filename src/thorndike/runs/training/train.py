"""`td.train` and `td.resume`: from an algorithm and an environment to a run, and on from where a run stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.algorithms import algorithm_class
from thorndike.configuration import is_config, plain, require, swept_fields, to_json, types_in
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import steps_of
from thorndike.drivers.offline import OfflineDriver
from thorndike.drivers.scan import ScanDriver
from thorndike.envs import full_id, make
from thorndike.envs.batched import is_jax, is_masked
from thorndike.envs.host.batch import cores
from thorndike.envs.host.guard import starts_within
from thorndike.envs.recorded import Recorded
from thorndike.errors import ConfigError
from thorndike.exports import VERSION
from thorndike.files import write_json
from thorndike.presets import based_on, preset_for
from thorndike.runs.results.run import Run, expand
from thorndike.runs.storage.datasets import dataset_of
from thorndike.runs.storage.directory import begun, new_directory, training, unused
from thorndike.runs.storage.environments import check_kept, describe, describe_environment
from thorndike.runs.storage.journal import FORMAT
from thorndike.runs.training.loop import Loop
from thorndike.runs.training.validation import (
    open_dataset,
    validate,
    validate_batch,
    validate_options,
    validate_restarts,
    validate_stepping,
    whole_steps,
)


def train(
    algorithm: Any,
    env: Any,
    steps: int | None = None,
    *,
    seed: int = 0,
    seeds: int = 1,
    out: str | Path | None = None,
    env_kwargs: dict[str, Any] | None = None,
    progress: bool | None = None,
    log_every: int | None = None,
    checkpoint_every: float = 60.0,
    keep: int = 3,
    tensorboard: bool = False,
    workers: str = "auto",
    env_timeout: float = 60.0,
    on_env_error: str = "raise",
    dataset: Any = None,
) -> Run:
    """Train an agent, or many side by side.

    Args:
        algorithm: a value (`td.PPO(learning_rate=1e-3)`), used as it is; or a name ("ppo"), which takes the preset
            for this environment where there is one. Float hyperparameters may be 1-D arrays: a sweep.
        env: an id, a JAX environment, or a `gymnasium.Env` class, instance or factory; see `td.make`. With a dataset
            also the pair of its spaces, (observation, action), where there is no environment; nothing is played then.
        steps: environment steps for each agent, rounded up to whole rollouts. Default: the preset's, or 100,000.
        seed: first seed; the same seed gives the same result.
        seeds: how many seeds, `seed` to `seed + seeds - 1`; as an axis of one program, each like its own run.
        out: the run's directory; by default a new one under `runs/`.
        env_kwargs: for the environment's constructor, where `env` is an id.
        progress: show a progress bar; by default on a terminal or in a notebook.
        log_every: steps between rows of `metrics.jsonl`; by default a 200th of `steps`, with a dataset a 20th.
        checkpoint_every: seconds between checkpoints; there is always one at the end.
        keep: how many checkpoints are kept.
        tensorboard: also write TensorBoard logs.
        workers: for host environments: "serial", "process" or "auto".
        env_timeout: seconds that a host environment may take for a step or a reset. With "serial" workers, which "auto"
            takes in the main thread for one environment or quick ones, code in C is waited for.
        on_env_error: "raise" an `EnvError` when a host environment raises, hangs, dies or breaks its contract; or
            "restart" it: learning sees the episode cut there with a reward of 0, no mean return counts it, and
            `rollout/env_restarts` counts them.
        dataset: recorded episodes to learn from, a `td.Dataset` or its directory; steps are then batches, and the
            environment only serves to evaluate.

    Returns:
        The run: `run.evaluate()`, `run.plot()`, `run.watch()`, `run.agent()`.

    Raises:
        ConfigError, IncompatibleError, UnknownNameError, MissingExtraError: before anything starts.
        EnvError: the environment raised, hung, or gave what its spaces do not allow; a directory in which nothing was
            saved by then is free again.
        DivergedError: a metric became NaN or infinite; the last good checkpoint is kept.
        KeyboardInterrupt: after Ctrl-C, once the run is saved; `td.resume(run.path)` goes on.
    """
    prepare_jax()
    seed, seeds, keep = (int(x) if isinstance(x, np.integer) else x for x in (seed, seeds, keep))
    kwargs = dict(env_kwargs or {})
    env = full_id(env) if isinstance(env, str) else env
    name = env if isinstance(env, str) else None
    validate_stepping(workers, env_timeout, on_env_error)
    with starts_within(env_timeout):
        world = make(env, **kwargs)
    algorithm, steps = choose(algorithm, name, steps)
    algorithm, world = (plain(x) if is_config(x) and not isinstance(x, type) else x for x in (algorithm, world))
    steps = whole_steps(steps)
    validate(algorithm, world, steps, seeds)
    data = open_dataset(algorithm, dataset, is_masked(world))
    if isinstance(world, Recorded):
        if data is None:
            raise ConfigError("spaces alone are enough only to learn from a dataset: give one, or an environment")
        world.id, world.masked = data.path.name, data.masks is not None
    validate_options(seed, seeds, log_every, checkpoint_every, keep, tensorboard)
    validate_restarts(world, on_env_error)
    if data is None:
        validate_batch(algorithm, world)
    else:
        data.fit(describe(world, steps, ""))
    described = describe_environment(world, name, kwargs)
    check_kept(described)
    base, changed = based_on(algorithm, described["id"])
    path = new_directory(out, algorithm, described["id"])
    chunk = 1 if data is not None else steps_of(algorithm)
    info = {
        "format": FORMAT,
        "algorithm": to_json(algorithm),
        "environment": described,
        "sweep": swept_fields(algorithm),
        "base": base,
        "changed": changed,
        "steps": -(-steps // chunk) * chunk,
        "seed": seed,
        "seeds": seeds,
        "log_every": max(1, round((log_every or steps / (200 if data is None else 20)) / chunk)),  # in rollouts
        "checkpoint_every": float(checkpoint_every),
        "keep": keep,
        "tensorboard": tensorboard,
        "workers": workers,
        "env_timeout": env_timeout,
        "on_env_error": on_env_error,
        "dataset": None if data is None else str(data.path.resolve()),
        "dataset_digest": None if data is None else data.digest(),
        "made": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "versions": versions(),
    }
    with training(path):
        unused(path)
        write_json(path / "run.json", info)
        try:
            run = Run(path, world, classes=types_in(algorithm))
            with driver_of(run) as driver:
                Loop(run, driver, None, progress).go()
        except BaseException:  # Ctrl-C too, while environments are made
            if not begun(path):
                (path / "run.json").unlink()
            raise
    return run


def resume(
    path: str | Path, steps: int | None = None, env: Any = None, classes: Any = (), progress: bool | None = None
) -> Run:
    """Go on with a run from its newest whole checkpoint.

    On JAX environments the result is bit for bit that of a run that was never interrupted; on host environments all
    but the simulator is restored, and new episodes are begun.

    Args:
        path: the run's directory.
        steps: a new total, to train longer than was planned; schedules then run over the new total.
        env: the environment, where the run was made with an object of your own.
        classes: config classes of your own that the settings name.
        progress: as in `train`.
    """
    prepare_jax()
    run = Run(path, env, classes)
    if env is not None:
        same_world(run)
    with training(run.path):
        if steps is not None:
            steps, chunk = whole_steps(steps), 1 if run.info.get("dataset") else steps_of(run.algorithm)
            require(steps >= run.status["steps"], f"the run has {run.status['steps']} steps already, more than {steps}")
            run.info["steps"] = -(-steps // chunk) * chunk
            write_json(run.path / "run.json", run.info)
        with driver_of(run) as driver:
            Loop(run, driver, run.state(driver), progress).go()
    return run


def same_world(run: Run) -> None:
    """Raise `ConfigError` where the environment that was given is seen not to be the one that was trained in."""
    given, trained_in = describe_environment(run.env, None, {}).get("fields"), run.info["environment"].get("fields")
    same = given is None or trained_in is None or json.loads(json.dumps(given)) == trained_in
    require(same, f"this run was trained in {trained_in}, not in {given}: to go on elsewhere, start a new one")


def prepare_jax() -> None:
    """One CPU device per core, and compiled programs kept on disk; where JAX runs already it stays as it is."""
    require(not jax.config.jax_enable_x64, "this computes in 32 bits: unset JAX_ENABLE_X64 (jax_enable_x64)")  # type: ignore[attr-defined]
    if jax.config.jax_num_cpu_devices < 0:  # type: ignore[attr-defined]  # JAX_NUM_CPU_DEVICES says nothing else
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", min(cores(), 16))
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "thorndike", "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def choose(algorithm: Any, env: str | None, steps: int | None) -> tuple[Any, int]:
    """The algorithm value and the number of steps, from a value, a class or a name."""
    if isinstance(algorithm, str):
        cls = algorithm_class(algorithm)
        settings, preset_steps = preset_for(cls, env)
        return dataclasses.replace(cls(), **settings), _first(steps, preset_steps)  # type: ignore[type-var]
    if isinstance(algorithm, type):
        algorithm = algorithm()
    return algorithm, _first(steps, None)


def _first(steps: int | None, preset: int | None) -> int:
    return steps if steps is not None else preset if preset is not None else 100_000


AFRESH = 1_000_003  # times the steps done, added to seeds of environments on the host: see `driver_of`


def driver_of(run: Run) -> Any:
    """The driver for a run's environment."""
    algorithm = expand(run.algorithm, run.seeds)
    if run.info.get("dataset"):
        return OfflineDriver(algorithm, run.env, run.spec, run.runs, dataset_of(run.info), run.stepping)
    if is_jax(run.env):
        return ScanDriver(algorithm, run.env, run.spec, run.runs)
    done = run.status["steps"]  # a run that goes on begins other episodes than it began with
    seeds = [member["seed"] + done * AFRESH for member in run.members()]
    return HostDriver(algorithm, run.env, run.spec, seeds, **run.stepping)


def versions() -> dict[str, str]:
    """What the run was made with."""
    packages = ("jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium")
    ours = {"python": platform.python_version(), "thorndike": VERSION}  # also where it is not installed
    return {**ours, **{name: version(name) for name in packages}}
