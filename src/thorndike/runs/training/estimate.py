"""What a training would take: parameters, memory, programs to compile and time, by a short measurement."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from thorndike.drivers.learner import replays
from thorndike.drivers.state import RunState
from thorndike.files import write_json
from thorndike.runs.results import given
from thorndike.runs.results.run import Run
from thorndike.runs.training.beginning import seed_keys
from thorndike.runs.training.evaluation import actors_of
from thorndike.runs.training.setup import driver_of
from thorndike.runs.training.start import Start
from thorndike.runs.training.validation import validate_memory
from thorndike.types import PyTree

SECONDS = 1.0  # of measured work with each program


@dataclasses.dataclass(frozen=True, repr=False)
class Estimate:
    """What a training would take; nothing of it is kept."""

    algorithm: str
    environment: str
    agents: int  # seeds times configurations
    steps: int  # of each agent
    parameters: int  # numbers that each agent's actor has
    state_bytes: int  # of the whole run state: what a checkpoint holds
    memory_bytes: int  # of these, replay memory
    programs: dict[str, float]  # what has to be compiled, and the seconds that it took
    steps_per_second: dict[str, float]  # of all agents together, for each kind of work
    seconds: float  # of work, without compilation and evaluations

    @property
    def compile_seconds(self) -> float:
        """Of all programs, one after the other; a training compiles some side by side, and keeps them on disk."""
        return sum(self.programs.values())

    def to_json(self) -> dict[str, Any]:
        """The data that `thorndike train --dry-run --json` prints."""
        return {**dataclasses.asdict(self), "compile_seconds": self.compile_seconds}

    def __str__(self) -> str:
        whole = f"{self.agents} agents" if self.agents > 1 else "1 agent"
        rates = ", ".join(f"{rate:,.0f} {kind}" for kind, rate in self.steps_per_second.items())
        programs = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.programs.items())
        memory = f", of which the replay memory is {_size(self.memory_bytes)}" if self.memory_bytes else ""
        return "\n".join(
            [
                f"{self.algorithm} on {self.environment}: {whole}, {self.steps:,} steps each",
                f"parameters  {self.parameters:,} of each agent that acts",
                f"memory      {_size(self.state_bytes)}{memory}; about as much for each checkpoint",
                f"programs    {programs}",
                f"speed       {rates} (steps/s of all agents together)",
                f"time        {_time(self.seconds)}, and {self.compile_seconds:.0f} s of compilation; evaluations come "
                "on top",
            ]
        )

    __repr__ = __str__


def estimate(world: Any, info: dict[str, Any], classes: Any, start: Start | None, agents: given.Agents) -> Estimate:
    """Measure a training that `run.json` would describe so, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "run.json", info | {"given": given.write(Path(folder), agents)})
        run = Run(folder, world, classes=classes)
        with driver_of(run) as driver:
            return _measured(run, driver, start)


def _measured(run: Run, driver: Any, start: Start | None) -> Estimate:
    like = driver.like()
    if replays(driver.algorithm):
        validate_memory(like.memory)
    began = time.monotonic()
    state = jax.block_until_ready(driver.init(seed_keys(run)))
    programs, rates, seconds = {"initialisation": time.monotonic() - began}, {}, 0.0
    state = state if start is None else driver.place(start.applied(state))
    total = run.info["steps"] // driver.chunk
    warm = min(driver.warm_iterations, total)
    for kind, is_warm, iterations in (("filling the memory", True, warm), ("learning", False, total - warm)):
        if iterations:
            each, programs[kind], state = _timed(driver, state, is_warm, iterations)
            rates[kind] = driver.chunk * run.runs / each
            seconds += each * iterations
    actors = jax.eval_shape(actors_of, run.settled(0), like.agent)
    return Estimate(
        algorithm=run.journal.name,
        environment=run.info["environment"]["id"],
        agents=run.runs,
        steps=run.info["steps"],
        parameters=sum(x.size for x in jax.tree.leaves(actors) if x.dtype.kind == "f") // run.runs,
        state_bytes=_bytes(like),
        memory_bytes=_bytes(like.memory),
        programs=programs,
        steps_per_second=rates,
        seconds=seconds,
    )


def _timed(driver: Any, state: RunState, warm: bool, iterations: int) -> tuple[float, float, RunState]:
    """Seconds of an iteration and of compilation, and the state after some iterations, of so many at most."""
    began = time.monotonic()
    driver.compile(warm)
    if driver.lazy:  # it compiles when it is first called
        state = jax.block_until_ready(driver.advance(state, 1, warm))
    compiled, n, spent = time.monotonic() - began, 1, 0.0
    while True:
        began = time.monotonic()
        state = jax.block_until_ready(driver.advance(state, n, warm))
        spent = time.monotonic() - began
        if spent > SECONDS or n >= iterations:
            return spent / n, compiled, state
        n = min(iterations, 2 * n if spent > SECONDS / 16 else 8 * n)


def _bytes(tree: PyTree) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _size(n: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:,.3g} {unit}" if unit != "bytes" else f"{n} bytes"
        n /= 1000  # type: ignore[assignment]
    return f"{n:,.3g} GB"


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
