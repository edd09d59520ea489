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
from thorndike.drivers.health import Health, health
from thorndike.drivers.learner import check_kind, set_clock
from thorndike.drivers.program import once, options
from thorndike.drivers.scan import axes, member
from thorndike.drivers.state import WINDOW, Episodes, RunState, Tally
from thorndike.memory.dataset import Dataset
from thorndike.ops.keys import random_key
from thorndike.schedules import settled
from thorndike.types import Array, Metrics, PyTree, Spec

BLOCK = 16  # most batches that one call of the compiled program learns from
EPISODES = 20  # of each evaluation


class OfflineDriver:
    """Owns the compiled programs of one (algorithm, dataset, number of runs)."""

    simulates = True  # nothing but the dataset is outside of the run state
    lazy = False
    devices = chunk = 1
    warm_iterations = 0

    def __init__(self, algorithm: Any, env: Any, spec: Spec, runs: int, dataset: Dataset, how: dict[str, Any]):
        """`how`: options of `evaluate`."""
        self.how = how
        self.algorithm, self.env, self.spec, self.runs, self.dataset = algorithm, env, spec, runs, dataset.fit(spec)
        self.size = batch_size(algorithm)

        def learn(algorithm, state, batches, n):
            """The first `n` of the batches [R, BLOCK, ...], or fewer if a metric is not finite."""

            update_one = partial(_update, spec)

            def update(carry):
                i, state = carry
                given = jax.tree.map(lambda x: x[:, i], batches)
                if runs > 1:
                    return i + 1, jax.vmap(update_one, in_axes=(axes(algorithm), 0, 0))(algorithm, state, given)
                state = update_one(member(algorithm, 0), *jax.tree.map(lambda x: x[0], (state, given)))
                return i + 1, jax.tree.map(lambda x: x[None], state)

            going = lambda carry: (carry[0] < n) & carry[1].tally.healthy().any()  # noqa: E731
            return jax.lax.while_loop(going, update, (0, state))[1]

        self._learn = jax.jit(learn, donate_argnums=1)
        self._compiled: Any = None
        self._draw = jax.jit(partial(_draw, len(dataset), self.size))

    def __enter__(self) -> OfflineDriver:
        return self

    def __exit__(self, *exc: Any) -> None:
        """Nothing to release."""

    def init(self, keys: Array) -> RunState:
        """States of all runs, [R]."""
        return once(partial(self._states, keys))

    def _states(self, keys: Array) -> RunState:

        def one(i):
            return _init_run(member(self.algorithm, i), self.spec, keys[i], self.batch())

        return jax.lax.map(one, jnp.arange(self.runs))

    def batch(self) -> PyTree:
        """One batch, for its shapes."""
        return self.dataset[np.zeros(self.size, int)]

    def like(self) -> RunState:
        """Shapes of the state."""
        return jax.eval_shape(self._states, jax.vmap(random_key)(jnp.zeros(self.runs, jnp.uint32)))

    def place(self, state: RunState) -> RunState:
        """The state on the device."""
        return jax.device_put(state)

    def compile(self, warm: bool = False) -> None:
        """Compile the program that `advance` calls."""
        if self._compiled is None:
            state = self.like()
            _, index, ukeys = jax.eval_shape(self._draw, state.key)
            batches = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*index.shape[:2], *x.shape), x.dtype), self.batch())
            rest = state._replace(key=())  # type: ignore[arg-type]
            lowered = self._learn.lower(self.algorithm, rest, (batches, ukeys), np.int32(1))
            self._compiled = lowered.compile(options(state.agent))

    def advance(self, state: RunState, iterations: int, warm: bool = False, fresh: bool = False) -> RunState:
        """`iterations` updates later, fewer if in all runs a metric is not finite. The argument is donated."""
        state = state._replace(tally=state.tally.restart(jnp.bool_(True))) if fresh else state
        self.compile()
        while iterations > 0:
            n = min(iterations, BLOCK)
            keys, index, ukeys = self._draw(state.key)
            some = self.dataset[np.asarray(index)[:, :n]]
            batches = jax.tree.map(lambda x, n=n: np.pad(x, [(0, 0), (0, BLOCK - n)] + [(0, 0)] * (x.ndim - 2)), some)
            rest = state._replace(key=())  # type: ignore[arg-type]
            state = self._compiled(self.algorithm, rest, (batches, ukeys), np.int32(n))._replace(key=keys[:, n - 1])
            iterations -= n
            if not np.any(state.tally.healthy()):
                break
        return state

    def evaluated(self, state: RunState) -> RunState:
        """With the returns of an evaluation as the run's last episodes, if there is an environment to play in."""
        if getattr(self.env, "recorded", False):
            return state
        algorithm = settled(self.algorithm, int(state.steps[0]), int(state.total[0]), 0)
        actors = [member(algorithm, i).actor(jax.tree.map(lambda x, i=i: x[i], state.agent)) for i in range(self.runs)]
        actor = jax.tree.map(lambda *xs: jnp.stack(xs), *actors)
        result = evaluate(algorithm, actor, self.env, EPISODES, how=self.how)
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


def _draw(size: int, batch: int, keys: Array) -> tuple[Array, Array, Array]:
    """Of the next BLOCK batches: the keys after each [R, BLOCK]; indices [R, BLOCK, batch] into a dataset, uniform with
    replacement; keys of updates [R, BLOCK]."""

    def one(key):
        # A key for each batch, one after the other: the same batches come whatever the blocks.
        def step(key, _):
            key, ikey, ukey = jax.random.split(key, 3)
            return key, (key, jax.random.randint(ikey, (batch,), 0, size), ukey)

        return jax.lax.scan(step, key, None, length=BLOCK)[1]

    return jax.vmap(one)(keys)


def _init_run(algorithm: Any, spec: Spec, key: Array, batch: PyTree) -> RunState:
    ikey, key = jax.random.split(key)
    algorithm = settled(algorithm, 0, spec.steps, 0)
    agent = algorithm.init(ikey, spec)
    after, metrics, seen = jax.eval_shape(partial(_learn, algorithm, spec), agent, batch, key)
    check_kind(algorithm, "update", agent, after)
    zero = jnp.int32(0)
    episodes, tally = Episodes.start(1, {}), Tally.start({**seen.metrics, **metrics})
    return RunState(agent, (), (), (), key, zero, jnp.int32(spec.steps), zero, episodes, tally)


def _learn(algorithm: Any, spec: Spec, agent: PyTree, batch: PyTree, key: Array) -> tuple[PyTree, Metrics, Health]:
    agent, metrics = algorithm.update(agent, batch, key)
    named = {f"train/{name}": value for name, value in metrics.items()}
    seen = health(spec.observation, batch)
    return agent, named, seen._replace(culprit=jnp.int32(-1))  # a dataset has no environments


def _update(spec: Spec, algorithm: Any, state: RunState, given: tuple[PyTree, Array]) -> RunState:
    batch, key = given
    algorithm = settled(algorithm, state.steps, state.total, 0)
    agent, metrics, seen = _learn(algorithm, spec, state.agent, batch, key)
    tally = state.tally.add(metrics, state.iterations, seen)
    steps = state.steps + 1
    agent = set_clock(agent, steps, state.total)
    return state._replace(agent=agent, steps=steps, iterations=state.iterations + 1, tally=tally)
