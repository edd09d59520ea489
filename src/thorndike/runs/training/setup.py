"""What training, resuming and estimating need first: JAX's settings, the algorithm's value, and a run's driver."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
from importlib.metadata import version
from typing import Any

import jax

from thorndike.algorithms import algorithm_class
from thorndike.configuration import require
from thorndike.drivers.asynchronous import AsyncDriver
from thorndike.drivers.host import HostDriver
from thorndike.drivers.offline import OfflineDriver
from thorndike.drivers.scan import ScanDriver
from thorndike.envs.batched import is_jax
from thorndike.envs.host.batch import cores
from thorndike.exports import VERSION
from thorndike.presets import preset_for, read_preset
from thorndike.runs.results.actors import expand
from thorndike.runs.results.given import bound
from thorndike.runs.results.run import Run
from thorndike.runs.storage.datasets import dataset_of


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


def choose(algorithm: Any, env: str | None, steps: int | None, preset: Any = None) -> tuple[Any, int]:
    """The algorithm value and the number of steps, from a value, a class or a name; `preset` is a file of settings."""
    require(
        preset is None or isinstance(algorithm, str), "preset= is for an algorithm's name: a value is used as it is"
    )
    if isinstance(algorithm, str):
        cls = algorithm_class(algorithm)
        settings, preset_steps = preset_for(cls, env) if preset is None else read_preset(preset, cls)
        return dataclasses.replace(cls(), **settings), _first(steps, preset_steps)  # type: ignore[type-var]
    if isinstance(algorithm, type):
        algorithm = algorithm()
    return algorithm, _first(steps, None)


def _first(steps: int | None, preset: int | None) -> int:
    return steps if steps is not None else preset if preset is not None else 100_000


AFRESH = 1_000_003  # times the steps done, added to seeds of environments on the host: see `driver_of`


def driver_of(run: Run) -> Any:
    """The driver for a run's environment."""
    algorithm = bound(expand(run.algorithm, run.seeds), run.given(), run.spec)
    if run.info.get("dataset"):
        return OfflineDriver(algorithm, run.spec, run.runs, dataset_of(run.info))
    warmup = "explore" if run.info["start"] else "random"  # who starts from elsewhere knows something already
    if is_jax(run.env):
        return ScanDriver(algorithm, expand(run.env, run.seeds), run.spec, run.runs, warmup)
    done = run.status["steps"]  # a run that goes on begins other episodes than it began with
    seeds = [member["seed"] + done * AFRESH for member in run.members()]
    driver = AsyncDriver if getattr(algorithm, "actors", 0) else HostDriver
    return driver(algorithm, run.env, run.spec, seeds, warmup, **run.stepping)


def versions() -> dict[str, str]:
    """What the run was made with."""
    packages = ("jax", "jaxlib", "equinox", "optax", "numpy", "gymnasium")
    ours = {"python": platform.python_version(), "thorndike": VERSION}  # also where it is not installed
    return {**ours, **{name: version(name) for name in packages}}
