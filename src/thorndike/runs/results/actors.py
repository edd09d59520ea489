"""What acts, of a run's checkpoints."""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from thorndike.drivers.scan import member
from thorndike.errors import CheckpointError
from thorndike.ops.keys import random_key
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.arrays import from_arrays
from thorndike.types import PyTree, Spec

Step = int | Literal["best"] | None  # which checkpoint; None: the newest


class Actors(NamedTuple):
    """The acting part of every agent of a run, at a checkpoint."""

    actors: PyTree  # leading axis [R]
    algorithm: Any  # with the numbers of all runs [R] at that step
    diverged: dict[int, int]  # which of the runs have diverged, at which step


def actors_at(run: Any, step: Step = None) -> Actors:
    """Those of the checkpoint at `step`, by default the newest that is whole; raises `CheckpointError`."""
    folder = run.path / "checkpoints"
    if step is not None:
        found, meta = checkpoint.load(checkpoint.place(folder, step), checkpoint.AGENT)
    else:
        newest = checkpoint.load_newest(folder, checkpoint.AGENT)
        if newest is None:
            resume = f"thorndike resume {run.shell}"
            raise CheckpointError(f"{run.path} has no checkpoint yet, nothing to act with: train it by {resume}")
        found, meta, damaged = newest
        for message in damaged:
            warnings.warn(f"skipped a checkpoint: {message}", stacklevel=4)
    algorithm = run.settled(meta["steps"] if step == checkpoint.BEST else step)
    arrays = {name.removeprefix(checkpoint.AGENT): x for name, x in found.items()}
    like = jax.eval_shape(lambda: stacked_init(algorithm, run.spec, run.runs))
    agents = from_arrays(arrays, like, f"the checkpoint of {run.path}")
    each = [member(algorithm, i).actor(jax.tree.map(lambda x, i=i: x[i], agents)) for i in range(run.runs)]
    diverged = {int(index): at for index, at in meta.get("diverged", {}).items()}
    return Actors(jax.tree.map(lambda *xs: np.stack(xs), *each), algorithm, diverged)


def expand(config: Any, seeds: int) -> Any:
    """An algorithm, or an environment, with the arrays of its numbers repeated for each seed: [C] to [C·seeds]."""
    return jax.tree.map(lambda x: np.repeat(np.asarray(x, np.float32), seeds) if np.ndim(x) else x, config)


def stacked_init(algorithm: Any, spec: Spec, runs: int) -> PyTree:
    """Fresh agents of all runs, [R]; for their shapes."""
    one = member(algorithm, 0).init(random_key(0), spec)
    return jax.tree.map(lambda x: jax.numpy.broadcast_to(x, (runs, *x.shape)), one)
