"""The state that a training begins with: a fresh one, with what it starts from elsewhere, or a checkpoint's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.drivers.learner import replays, set_clock
from thorndike.drivers.state import RunState
from thorndike.ops.keys import random_key
from thorndike.runs.results.run import Run
from thorndike.runs.training.signals import Background, Signals
from thorndike.runs.training.start import Start
from thorndike.runs.training.validation import validate_memory
from thorndike.runs.training.waiting import result_of


def fresh_state(run: Run, driver: Any, start: Start | None, signals: Signals) -> RunState | None:
    """The state before the first step; None if a signal came first."""
    if replays(driver.algorithm):
        validate_memory(driver.like().memory)
    keys = seed_keys(run)
    if driver.simulates:
        state = result_of(Background(lambda: driver.init(keys)), signals)
    else:  # environments on the host are for the main thread
        state = driver.init(keys)
    return state if state is None or start is None else driver.place(start.applied(state))


def found_state(run: Run, driver: Any, found: Any, goes_on: bool, say: Callable[[str], None]) -> RunState:
    """The state of a checkpoint, as `run.state` gives it with what is known of it; `goes_on` if steps are left."""
    state, meta, damaged = found
    for message in damaged:
        say(f"skipped a checkpoint: {message}")
    if meta["devices"] != driver.devices:
        say(f"saved with {meta['devices']} devices, resumed with {driver.devices}: equal up to rounding only")
    total = np.full_like(state.total, run.info["steps"])
    state = state._replace(total=total, agent=set_clock(state.agent, state.steps, total))
    if not driver.simulates and goes_on:
        state = state._replace(episodes=state.episodes.restart())
        say("the simulator cannot be saved: new episodes begin, all else is as it was")
    return driver.place(state)


def seed_keys(run: Run) -> jax.Array:
    """A random key for each run [R]; seeds vary fastest."""
    seeds = [member["seed"] for member in run.members()]
    return jax.vmap(random_key)(jnp.asarray(seeds, jnp.uint32))
