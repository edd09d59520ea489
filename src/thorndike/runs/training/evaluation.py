"""Evaluation while training: between chunks of work the agents play whole episodes, greedily, apart from training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from thorndike.drivers.earned import mean_known, metric_of
from thorndike.drivers.evaluate import compiled, hosted, open_batch
from thorndike.drivers.evaluation import Evaluation
from thorndike.drivers.given import unbound
from thorndike.drivers.match import against_random
from thorndike.drivers.scan import axes, members_of
from thorndike.drivers.state import RunState
from thorndike.envs.batched import is_jax
from thorndike.ops.keys import random_key
from thorndike.runs.results.actors import expand
from thorndike.runs.results.run import Run
from thorndike.schedules import settled
from thorndike.types import PyTree

SEEDS = 2**31  # from which the seeds of these evaluations count: those of runs, and of `run.evaluate`, lie below


class Evaluator:
    """Plays so many episodes with each agent of a run.

    The seed of an evaluation is `SEEDS` and the step at which it is made: all agents play the same episodes, which
    differ from one evaluation to the next, and a run that is resumed plays those that it would have played. On the host
    the environments are a batch of their own, which is made for the first evaluation and goes on with other episodes in
    the next.
    """

    def __init__(self, run: Run, algorithm: Any, episodes: int):
        """`algorithm` has the numbers of all runs [R]."""
        self.run, self.algorithm, self.episodes = run, unbound(algorithm), episodes
        self.env = expand(getattr(run.env, "evaluation", run.env), run.seeds)
        self.batch: Any = None

    def __call__(self, state: RunState, lost: np.ndarray, interrupted: Callable[[], bool]) -> Evaluation | None:
        """Evaluate the agents of `state`, but for the runs [R] that are lost; None if a signal came first."""
        well, steps = np.flatnonzero(~lost), int(state.steps[0])
        count = int(np.max(state.episodes.count))
        algorithm = settled(self.algorithm, steps, self.run.info["steps"], count)
        algorithm, env = members_of(algorithm, well), members_of(self.env, well)
        actors = actors_of(algorithm, jax.tree.map(lambda x: x[well], state.agent))
        actors = jax.device_put(actors, jax.devices()[0])
        found = self.play(algorithm, actors, env, SEEDS + steps, interrupted)
        return None if found is None else found.among(well, self.run.members())

    def play(
        self, algorithm: Any, actors: PyTree, env: Any, seed: int, interrupted: Callable[[], bool]
    ) -> Evaluation | None:
        """The agents' episodes, in whichever kind of environment this is."""
        if getattr(env, "players", 1) > 1:
            return against_random(algorithm, actors, env, self.episodes, seed)
        key = random_key(seed)
        if is_jax(env):
            return compiled(algorithm, actors, env, self.episodes, key, interrupted=interrupted)
        if self.batch is None:
            # An environment that a user has made is stepped itself where one is needed, and may be in training.
            least = 2 if getattr(self.env, "single", False) else 1
            self.batch = open_batch(self.env, self.episodes, self.run.seed, self.run.stepping, least)
        batches = lambda: contextlib.nullcontext(self.batch)  # noqa: E731
        return hosted(algorithm, actors, self.env, self.episodes, key, batches, interrupted=interrupted)

    def close(self) -> None:
        """Close the environments."""
        if self.batch is not None:
            self.batch.close()


def actors_of(algorithm: Any, agents: PyTree) -> PyTree:
    """The acting parts of agents, leading axis [R]."""
    return jax.vmap(lambda one, agent: one.actor(agent), in_axes=(axes(algorithm), 0))(algorithm, agents)


def values_of(found: Evaluation) -> dict[str, np.ndarray]:
    """What a row of metrics says of an evaluation: means over the episodes of each run [R]."""
    lost = np.isnan(found.returns).any(1)
    return {
        "eval/mean_reward": found.returns.mean(1),
        "eval/std": found.returns.std(1),
        "eval/ep_len_mean": np.where(lost, np.nan, found.lengths.mean(1)),
        **{metric_of(name, "eval"): mean_known(x, 1) for name, x in found.earned.items()},
    }
