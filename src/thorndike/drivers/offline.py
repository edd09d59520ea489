"""The driver for learning from a dataset: batches are gathered on the host, updates are compiled.

A step is one batch. Whatever has `update(state, batch, key)` on transitions learns here; from time to time the agent is
evaluated in the environment, and those returns are the run's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.drivers.evaluate import evaluate
from thorndike.drivers.learner import set_clock
from thorndike.drivers.scan import axes, member
from thorndike.drivers.state import WINDOW, Episodes, RunState, Tally
from thorndike.memory.dataset import Dataset
from thorndike.ops.keys import random_key
from thorndike.types import Array, PyTree, Spec

BLOCK = 16  # batches that one call of the compiled program learns from
EPISODES = 20  # of each evaluation


class OfflineDriver:
    """Owns the compiled programs of one (algorithm, dataset, number of runs)."""

    simulates = True  # nothing but the dataset is outside of the run state
    lazy = True
    devices = chunk = 1
    warm_iterations = 0

    def __init__(self, algorithm: Any, env: Any, spec: Spec, runs: int, dataset: Dataset):
        self.algorithm, self.env, self.spec, self.runs, self.dataset = algorithm, env, spec, runs, dataset.fit(spec)
        self.size = batch_size(algorithm)

        def learn(algorithm, state, batches):
            def one(algorithm, state, batches):
                def update(state, given):  # no more after a metric that is not finite
                    go_on = lambda state: _update(algorithm, state, given)  # noqa: E731
                    return jax.lax.cond(state.tally.healthy(), go_on, lambda state: state, state), None

                return jax.lax.scan(update, state, batches)[0]

            if runs == 1:
                state = one(member(algorithm, 0), *jax.tree.map(lambda x: x[0], (state, batches)))
                return jax.tree.map(lambda x: x[None], state)
            return jax.vmap(one, in_axes=(axes(algorithm), 0, 0))(algorithm, state, batches)

        self._learn = jax.jit(learn, donate_argnums=1)
        self._draw = jax.jit(partial(_draw, len(dataset), self.size), static_argnums=1)

    def __enter__(self) -> OfflineDriver:
        return self

    def __exit__(self, *exc: Any) -> None:
        """Nothing to release."""

    def init(self, keys: Array) -> RunState:
        """States of all runs, [R]."""

        def one(i):
            return _init_run(member(self.algorithm, i), self.spec, keys[i], self.batch())

        return jax.jit(lambda: jax.lax.map(one, jnp.arange(self.runs)))()

    def batch(self) -> PyTree:
        """One batch, for its shapes."""
        return self.dataset[np.zeros(self.size, int)]

    def like(self) -> RunState:
        """Shapes of the state."""
        return jax.eval_shape(self.init, jax.vmap(random_key)(jnp.zeros(self.runs, jnp.uint32)))

    def place(self, state: RunState) -> RunState:
        """The state on the device."""
        return jax.device_put(state)

    def compile(self, warm: bool) -> None:
        """Nothing: the programs compile when `advance` first calls them."""

    def advance(self, state: RunState, iterations: int, warm: bool = False, fresh: bool = False) -> RunState:
        """`iterations` updates later. The argument is donated: do not use it again."""
        state = state._replace(tally=state.tally.restart(jnp.bool_(True))) if fresh else state
        while iterations > 0:
            n = BLOCK if iterations >= BLOCK else 1
            key, index, ukeys = self._draw(state.key, n)
            batches = self.dataset[np.asarray(index)]
            rest = state._replace(key=())  # type: ignore[arg-type]
            state = self._learn(self.algorithm, rest, (batches, ukeys))._replace(key=key)
            iterations -= n
            if not np.asarray(state.tally.healthy()).all():
                break
        return state

    def evaluated(self, state: RunState) -> RunState:
        """With the returns of an evaluation in the environment as the run's last episodes."""
        actors = [
            member(self.algorithm, i).actor(jax.tree.map(lambda x, i=i: x[i], state.agent)) for i in range(self.runs)
        ]
        result = evaluate(self.algorithm, jax.tree.map(lambda *xs: jnp.stack(xs), *actors), self.env, EPISODES)
        pad = lambda x, dtype: jnp.asarray(np.pad(x, [(0, 0), (0, WINDOW - EPISODES)]), dtype)  # noqa: E731
        episodes = state.episodes._replace(
            returns=pad(result.returns, jnp.float32),
            lengths=pad(result.lengths, jnp.int32),
            count=jnp.full(self.runs, EPISODES, jnp.int32),
        )
        return state._replace(episodes=episodes)


def batch_size(algorithm: Any) -> int:
    """Transitions in a batch."""
    return algorithm.batch_size if hasattr(algorithm, "batch_size") else algorithm.replay.batch_size


def _draw(size: int, batch: int, keys: Array, n: int) -> tuple[Array, Array, Array]:
    """The next keys [R]; indices [R, n, batch] into a dataset, uniform with replacement; keys of updates [R, n]."""

    def one(key):
        # A key for each batch, one after the other: the same batches come whatever the blocks.
        def step(key, _):
            key, ikey, ukey = jax.random.split(key, 3)
            return key, (jax.random.randint(ikey, (batch,), 0, size), ukey)

        key, (index, ukeys) = jax.lax.scan(step, key, None, length=n)
        return key, index, ukeys

    return jax.vmap(one)(keys)


def _init_run(algorithm: Any, spec: Spec, key: Array, batch: PyTree) -> RunState:
    ikey, key = jax.random.split(key)
    agent = algorithm.init(ikey, spec)
    metrics = jax.eval_shape(partial(_learn, algorithm), agent, batch, key)[1]
    zero = jnp.int32(0)
    episodes, tally = Episodes.start(1), Tally.start(metrics)
    return RunState(agent, (), (), (), key, zero, jnp.int32(spec.steps), zero, episodes, tally)


def _learn(algorithm: Any, agent: PyTree, batch: PyTree, key: Array) -> tuple[PyTree, dict[str, Array]]:
    agent, metrics = algorithm.update(agent, batch, key)
    floats = [x for x in jax.tree.leaves(batch.obs) if jnp.issubdtype(x.dtype, jnp.floating)]
    health = {"rollout/observation_max": jnp.stack([jnp.abs(x).max() for x in floats]).max()} if floats else {}
    named = {f"train/{name}": value for name, value in metrics.items()}
    return agent, {**health, "rollout/reward_mean": batch.reward.mean(), **named}


def _update(algorithm: Any, state: RunState, given: tuple[PyTree, Array]) -> RunState:
    batch, key = given
    agent, metrics = _learn(algorithm, state.agent, batch, key)
    tally = state.tally.add(metrics, state.iterations)
    steps = state.steps + 1
    agent = set_clock(agent, steps, state.total)
    return state._replace(agent=agent, steps=steps, iterations=state.iterations + 1, tally=tally)
