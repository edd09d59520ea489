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
import jax.numpy as jnp
import numpy as np

from thorndike.algorithms import algorithm_class
from thorndike.configuration import check, is_config, require, swept, to_json, types_in
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import replays, steps_of
from thorndike.drivers.offline import OfflineDriver
from thorndike.drivers.scan import ScanDriver
from thorndike.envs import make
from thorndike.envs.wrap import is_jax
from thorndike.errors import ConfigError, IncompatibleError
from thorndike.memory.dataset import Dataset
from thorndike.memory.sequences import Sequences
from thorndike.ops.keys import random_key
from thorndike.presets import preset_for
from thorndike.runs.directory import new_directory, training, unused
from thorndike.runs.loop import Loop
from thorndike.runs.metrics import summary_writer
from thorndike.runs.run import FORMAT, Run, describe, describe_environment, expand, write_json
from thorndike.types import Spec

MOST_STEPS = 2_000_000_000  # which are counted in 32 bits


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
        env: an id, a JAX environment, or a `gymnasium.Env` class, instance or factory; see `td.make`.
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
        workers: for host environments: "serial", "thread", "process" or "auto".
        env_timeout: seconds that a host environment may take for a step or a reset.
        on_env_error: "raise" an `EnvError` when a host environment raises, hangs, dies or breaks its contract; or
            "restart" it: the episode is cut there, and `rollout/env_restarts` counts.
        dataset: recorded episodes to learn from, a `td.Dataset` or its directory; steps are then batches, and the
            environment only serves to evaluate.

    Returns:
        The run: `run.evaluate()`, `run.plot()`, `run.watch()`, `run.agent()`.

    Raises:
        ConfigError, IncompatibleError, UnknownNameError, MissingExtraError: before anything starts.
        DivergedError: a metric became NaN or infinite; the last good checkpoint is kept.
        KeyboardInterrupt: after Ctrl-C, once the run is saved; `td.resume(run.path)` goes on.
    """
    prepare_jax()
    kwargs = dict(env_kwargs or {})
    name = env if isinstance(env, str) else None
    world = make(env, **kwargs)
    algorithm, steps = choose(algorithm, name, steps)
    steps = whole_steps(steps)
    validate(algorithm, world, steps, seeds)
    data = open_dataset(algorithm, dataset, bool(getattr(world, "masked", False)))
    validate_options(seed, seeds, log_every, checkpoint_every, keep, tensorboard)
    validate_host(world, workers, env_timeout, on_env_error)
    if data is None:
        validate_batch(algorithm, world, seeds * (swept(algorithm) or 1))
    else:
        data.fit(describe(world, steps, ""))
    described = describe_environment(world, name, kwargs)
    try:
        json.dumps(described)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"env_kwargs {kwargs} cannot be kept in run.json: {error}; give plain values") from None
    path = new_directory(out, algorithm, name or type(world).__name__)
    chunk = 1 if data is not None else steps_of(algorithm)
    info = {
        "format": FORMAT,
        "algorithm": to_json(algorithm),
        "environment": described,
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
        "made": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "versions": versions(),
    }
    with training(path):
        unused(path)
        write_json(path / "run.json", info)
        run = Run(path, world, classes=types_in(algorithm))
        try:
            driver = driver_of(run)
        except BaseException:
            (path / "run.json").unlink()  # nothing has begun
            raise
        with driver:
            Loop(run, driver, None, progress).go()
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
    with training(run.path):
        if steps is not None:
            steps, chunk = whole_steps(steps), 1 if run.info.get("dataset") else steps_of(run.algorithm)
            require(steps >= run.status["steps"], f"the run has {run.status['steps']} steps already, more than {steps}")
            run.info["steps"] = -(-steps // chunk) * chunk
            write_json(run.path / "run.json", run.info)
        with driver_of(run) as driver:
            Loop(run, driver, run.state(driver), progress).go()
    return run


def prepare_jax() -> None:
    """One CPU device per core, and compiled programs kept on disk; where JAX runs already it stays as it is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", min(cores, 16))
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "thorndike", "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def choose(algorithm: Any, env: str | None, steps: int | None) -> tuple[Any, int]:
    """The algorithm value and the number of steps, from a value, a class or a name."""
    if isinstance(algorithm, str):
        cls = algorithm_class(algorithm)
        settings, preset_steps = preset_for(cls.__name__, env)
        return dataclasses.replace(cls(), **settings), _first(steps, preset_steps)  # type: ignore[type-var]
    if isinstance(algorithm, type):
        algorithm = algorithm()
    return algorithm, _first(steps, None)


def _first(steps: int | None, preset: int | None) -> int:
    return steps if steps is not None else preset if preset is not None else 100_000


def whole_steps(steps: Any) -> int:
    """`steps` as a number of Python's, also where it was written 1e6; raises `ConfigError`."""
    number = isinstance(steps, (int, float, np.integer, np.floating)) and not isinstance(steps, bool)
    require(number and steps > 0 and steps % 1 == 0, f"steps must be a positive whole number, got {steps!r}")
    require(steps <= MOST_STEPS, f"steps must be at most {MOST_STEPS:,} for each run, got {int(steps):,}")
    return int(steps)


def validate(algorithm: Any, env: Any, steps: int, seeds: int) -> None:
    """Everything that can be wrong before a run starts."""
    if not (is_config(algorithm) and hasattr(algorithm, "act")):
        raise ConfigError(f"{algorithm!r} is not an algorithm: give one like td.PPO(), or a name like 'ppo'")
    check(algorithm)
    if is_config(env):
        require(swept(env) is None, "only an algorithm's numbers may be arrays, not an environment's")
        check(env)
    if is_jax(env):
        check_spaces(env)
    swept(algorithm)
    require(isinstance(seeds, int) and seeds > 0, f"seeds must be a positive whole number, got {seeds!r}")
    problem = serves(algorithm, describe(env, steps, ""))
    if problem:
        raise IncompatibleError(problem + "." + able(env))


def check_spaces(env: Any) -> None:
    """A JAX environment's spaces are the same whatever its numbers are: programs see these as tracers."""
    env.observation_space, env.action_space  # noqa: B018  # what is wrong with them in themselves
    try:
        jax.eval_shape(lambda env: (env.observation_space, env.action_space, 0)[-1], env)
    except Exception:
        raise ConfigError(
            f"the spaces of {type(env).__name__} depend on its float fields, which compiled programs may change: "
            "let bounds be constants, or declare such a field as int"
        ) from None


def validate_options(
    seed: int, seeds: int, log_every: int | None, checkpoint_every: float, keep: int, tensorboard: bool
) -> None:
    """What else can be wrong before a run starts."""
    whole = isinstance(seed, int) and 0 <= seed <= 2**31 - seeds
    require(whole, f"seed must be a whole number from 0 to 2**31 - seeds, got {seed!r}")
    number = lambda x: isinstance(x, (int, float, np.number)) and not isinstance(x, bool)  # noqa: E731
    every = log_every is None or (number(log_every) and log_every > 0)
    require(every, f"log_every must be a positive number of steps, got {log_every!r}")
    seconds = number(checkpoint_every) and checkpoint_every >= 0
    require(seconds, f"checkpoint_every is seconds, 0 or more, got {checkpoint_every!r}")
    require(isinstance(keep, int) and keep > 0, f"keep must be a positive whole number, got {keep!r}")
    if tensorboard:
        summary_writer()


def validate_host(env: Any, workers: str, timeout: float, on_error: str) -> None:
    """What can be wrong with how environments on the host are stepped."""
    known = ("auto", "serial", "thread", "process")
    require(workers in known, f"workers must be one of {', '.join(known)}, got {workers!r}")
    seconds = isinstance(timeout, (int, float)) and timeout > 0
    require(seconds, f"env_timeout is seconds, more than 0, got {timeout!r}")
    require(on_error in ("raise", "restart"), f'on_env_error must be "raise" or "restart", got {on_error!r}')
    restarts = on_error == "raise" or getattr(env, "restartable", True)
    require(restarts, 'these environments cannot be restarted: on_env_error has to be "raise"')


def validate_batch(algorithm: Any, env: Any, runs: int) -> None:
    """What can be wrong with how many environments a run steps at once."""
    one = runs == 1 or not getattr(env, "asynchronous", False)
    require(one, "an asynchronous pool of environments serves one run at a time: train its seeds one by one")
    agents = getattr(env, "agents", 1)
    whole = algorithm.num_envs % agents == 0
    fitting = -(-algorithm.num_envs // agents) * agents
    require(whole, f"a world has {agents} agents, so num_envs must be a multiple of {agents}: {fitting}, say")


def open_dataset(algorithm: Any, dataset: Any, masked: bool) -> Dataset | None:
    """The dataset to learn from; raises where there has to be one, or the algorithm cannot use one."""
    name = type(algorithm).__name__
    if dataset is None:
        if getattr(algorithm, "offline", False):
            raise ConfigError(f"{name} learns from a dataset: give one, dataset=... (--dataset DIR)")
        return None
    whole = hasattr(algorithm, "experience") or isinstance(getattr(algorithm, "replay", None), Sequences)
    if not replays(algorithm) or whole:
        raise IncompatibleError(
            f"{name} does not learn from single transitions, so not from a dataset: bc, dqn, sac do"
        )
    if masked and not getattr(algorithm, "offline", False):
        raise IncompatibleError(
            f"datasets do not hold which actions were legal, and {name} would count on illegal ones: bc does not"
        )
    return dataset if isinstance(dataset, Dataset) else Dataset(dataset)


def serves(algorithm: Any, spec: Spec) -> str | None:
    """None, or why the algorithm cannot learn in such an environment."""
    if spec.players > 1 and getattr(algorithm, "players", 1) != spec.players:
        return f"{type(algorithm).__name__} learns for one player, and this game has {spec.players}"
    return algorithm.supports(spec)


def able(env: Any) -> str:
    """Which algorithms can serve `env`, as a sentence."""
    from thorndike.algorithms import ALGORITHMS

    spec, defaults = describe(env, 1, ""), {name: algorithm_class(name)() for name in ALGORITHMS}
    playing = {name: value for name, value in defaults.items() if not getattr(value, "offline", False)}
    names = [name for name, value in playing.items() if serves(value, spec) is None]
    return f" Algorithms that can serve it: {', '.join(names)}." if names else ""


def driver_of(run: Run) -> Any:
    """The driver for a run's environment."""
    algorithm = expand(run.algorithm, run.seeds)
    if run.info.get("dataset"):
        return OfflineDriver(algorithm, run.env, run.spec, run.runs, Dataset(run.info["dataset"]))
    if is_jax(run.env):
        return ScanDriver(algorithm, run.env, run.spec, run.runs)
    how = {"timeout": run.info["env_timeout"], "on_error": run.info["on_env_error"]}
    seeds = [member["seed"] for member in run.members()]
    return HostDriver(algorithm, run.env, run.spec, seeds, workers=run.info["workers"], **how)


def seed_keys(run: Run) -> jax.Array:
    """A random key for each run [R]; seeds vary fastest."""
    seeds = [member["seed"] for member in run.members()]
    return jax.vmap(random_key)(jnp.asarray(seeds, jnp.uint32))


def versions() -> dict[str, str]:
    """What the run was made with."""
    packages = ("thorndike", "jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
