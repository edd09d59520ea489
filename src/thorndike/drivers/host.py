"""The driver for environments on the host: they step in NumPy, acting and learning are compiled.

What replays learns from its memory while the environments step, and remembers the rollout after that: an update sees
the memory as it was before the rollout beside it. What learns from the rollout itself waits for it, in one program with
the bookkeeping: the rollout is handed over once.

Adding to the replay memory is a program of its own, with the storage donated; learning takes the storage read-only.
It writes an agent into the storage of the one before the last: XLA would copy the last one's parameters before it
overwrites them, and with new storage for each update the heaps of its threads grow.

The simulator is not part of the run state: a resumed run begins new episodes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Discrete, MultiDiscrete

from thorndike.drivers.dropped import without
from thorndike.drivers.health import health
from thorndike.drivers.learner import (
    check_kind,
    collect,
    done_at_random,
    improve,
    init_memory,
    ranked,
    ranking_of,
    replays,
    set_clock,
    steps_of,
    warm_iterations,
)
from thorndike.drivers.program import once, options
from thorndike.drivers.scan import ANY, axes, member, transition
from thorndike.drivers.state import Episodes, RunState, Tally
from thorndike.envs.masks import mask_sizes
from thorndike.envs.mixed import Mixed
from thorndike.ops.keys import random_key
from thorndike.schedules import scheduled, settled
from thorndike.types import Array, Clock, Metrics, PyTree, Rollout, Spec, Timestep, Transition


@jax.tree_util.register_pytree_node_class
class Packed:
    """A tree flattened once: what is handed from program to program, without a walk through its Python classes."""

    def __init__(self, tree: PyTree):
        self.leaves, self.structure = jax.tree.flatten(tree)

    @property
    def tree(self) -> PyTree:
        """The tree itself."""
        return jax.tree.unflatten(self.structure, self.leaves)

    def tree_flatten(self) -> tuple[list[Any], Any]:
        """For JAX."""
        return self.leaves, self.structure

    @classmethod
    def tree_unflatten(cls, structure: Any, leaves: Any) -> Packed:
        """For JAX."""
        packed = object.__new__(cls)
        packed.leaves, packed.structure = list(leaves), structure
        return packed


class HostDriver:
    """Owns the environments and the compiled programs of one (algorithm, environment, number of runs)."""

    simulates = False
    lazy = True
    devices = 1

    def __init__(self, algorithm: Any, env: Any, spec: Spec, seeds: list[int], warmup: str = "random", **how: Any):
        """`seeds`: one for each run; `warmup`: as of `ScanDriver`; `how`: workers, timeout and on_error, as of
        `HostBatch`."""
        runs = len(seeds)

        def agents():
            return jax.tree.map(lambda x: x[None], settled(member(algorithm, 0), 0, 1, 0).init(random_key(0), spec))

        program = partial(jax.jit, compiler_options=options(jax.eval_shape(agents)))
        self.algorithm, self.spec, self.runs = algorithm, spec, runs
        self.settings, self.replays = Packed(jax.device_put(algorithm)), replays(algorithm)
        self.chunk, self.warm_iterations = steps_of(algorithm), warm_iterations(algorithm)
        self.batch = env.batch(runs * algorithm.num_envs, seed=seeds, **how)
        self.changing = scheduled(algorithm)
        self.healthy = np.ones(runs, bool)  # runs that have not diverged
        self.mends = how.get("on_error") == "restart"
        self.now: Timestep | None = None
        self.before: Transition | None = None  # the last step of the rollout before
        self.spare: Packed | None = None  # the agent before the present one, for its storage

        def over_runs(f):
            """`f(algorithm, *args)` over the axis [R] of args; plain where there is one run."""

            def single(algorithm, *args):
                out = f(member(algorithm.tree, 0), *jax.tree.map(lambda x: x[0], args))
                return jax.tree.map(lambda x: x[None], out)

            def several(algorithm, *args):
                return jax.vmap(f, in_axes=(axes(algorithm.tree), *(0 for _ in args)))(algorithm.tree, *args)

            return single if runs == 1 else several

        changing = self.changing

        def at(algorithm, book):
            """The algorithm with the numbers of this point of the run."""
            return settled(algorithm, book.steps, book.total, book.episodes.count) if changing else algorithm

        def act(algorithm, agent, carry, now, key, point, warm):
            algorithm = at(algorithm, point)
            key, akey, rkey, _ = jax.random.split(key, 4)  # the last is for learning
            actor = algorithm.actor(agent.tree)
            action, carry, extras = algorithm.act(actor, carry, now, akey, True)
            if warm and warmup == "random":
                action, carry = done_at_random(algorithm, spec.action, actor, carry, action, now, rkey)
            return action, carry, extras, key

        def learn(algorithm, ranking, agent, memory, rollout, key, clock, point):
            algorithm, memory = at(algorithm, point), ranked(memory.tree, ranking.tree)
            agent, ranking, metrics = improve(algorithm, agent.tree, memory, rollout, jax.random.split(key, 4)[3])
            metrics = {name: jnp.float32(value) for name, value in metrics.items()}
            return Packed(set_clock(agent, clock.steps + self.chunk, clock.total)), Packed(ranking), metrics

        def add(algorithm, memory, ranking, book, rollout, dropped, metrics, agent, carry, key, warm):
            book = _written(algorithm, spec, book.tree, rollout, dropped, metrics)
            memory = collect(at(algorithm, book), ranked(memory.tree, ranking.tree), rollout)
            move = act(algorithm, agent, carry, rollout.last, key, book, warm)  # the first step of the next rollout
            ranking, memory = Packed(ranking_of(memory)), Packed(ranked(memory, ()))
            return memory, ranking, Packed(book), book.tally.healthy(), move

        def learn_and_add(algorithm, agent, memory, ranking, book, rollout, dropped, carry, key, later):
            point = book.tree
            clock = Clock(point.steps, point.total)
            agent, _, metrics = learn(algorithm, ranking, agent, memory, rollout, key, clock, point)
            told = rollout, dropped, metrics
            return agent, *add(algorithm, memory, ranking, book, *told, agent, carry, later, False)

        both = (False, True)
        self._act = {warm: program(over_runs(partial(act, warm=warm))) for warm in both}
        learned = over_runs(learn)
        self._learn = program(lambda spare, *args: learned(*args), donate_argnums=(0, 2), keep_unused=True)
        cycle = over_runs(learn_and_add)
        self._learn_and_add = program(lambda spare, *args: cycle(*args), donate_argnums=(0, 3, 4, 5), keep_unused=True)
        self._add = {warm: program(over_runs(partial(add, warm=warm)), donate_argnums=(1, 2, 3)) for warm in both}

    def __enter__(self) -> HostDriver:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.batch.close()

    def init(self, keys: Array) -> RunState:
        """States of all runs, [R]."""
        return once(partial(self._states, keys))

    def _states(self, keys: Array) -> RunState:
        now, earned = self.observe(), self.split(getattr(self.batch, "nothing", {}))

        def one(i):
            return _init_run(
                member(self.algorithm, i), self.spec, keys[i], *jax.tree.map(lambda x: x[0], (now, earned))
            )

        return jax.lax.map(one, jnp.arange(self.runs))

    def like(self) -> RunState:
        """Shapes of the state."""
        return jax.eval_shape(self._states, jax.vmap(random_key)(jnp.zeros(self.runs, jnp.uint32)))

    def place(self, state: RunState) -> RunState:
        """The state on the device."""
        return jax.device_put(state)

    def compile(self, warm: bool) -> None:
        """Nothing: the programs compile when `advance` first calls them."""

    def advance(
        self, state: RunState, iterations: int, warm: bool = False, fresh: bool = False, most: int = ANY
    ) -> RunState:
        """`iterations` iterations later, fewer where in some run more than `most` episodes have ended before. Most of
        the argument is donated: do not use it again.

        With `fresh` the metric sums begin anew; with `warm` actions are random and nothing is learned. Stops early when
        in all runs a metric is not finite: no environment is stepped with what such parameters say, see `harmless`.

        An update from the memory is begun before the last iteration is looked at.
        """
        state = state._replace(tally=state.tally.restart(jnp.bool_(True))) if fresh else state
        settings, agent = self.settings, Packed(state.agent)
        memory, ranking = Packed(ranked(state.memory, ())), Packed(ranking_of(state.memory))
        book = Packed(state._replace(agent=(), memory=(), carry=(), key=()))  # type: ignore[arg-type]
        carry, key, metrics, healthy = state.carry, state.key, None, True
        told: Any
        spare, self.spare = self.spare or jax.device_put(agent, may_alias=False), None
        move = self._act[warm](settings, agent, carry, self.observe(), key, self.point(book))
        ended = np.zeros(self.runs, int)
        for _ in range(iterations):
            so_far, learned = book.tree, agent
            clock, point = Clock(so_far.steps, so_far.total), self.point(book)
            if self.replays and not warm:
                learned, ranking, metrics = self._learn(
                    spare, settings, ranking, agent, memory, None, key, clock, point
                )
            self.healthy = np.broadcast_to(np.asarray(healthy), self.runs)
            if not self.healthy.any():
                spare = None
                break  # without what has just begun
            rollout, dropped, carry, later = self.rollout(agent, carry, key, point, move, warm)
            ended += np.asarray(rollout.steps.ended).sum((1, 2))
            if self.replays:
                told = rollout, dropped, metrics, learned, carry, later
                memory, ranking, book, healthy, move = self._add[warm](settings, memory, ranking, book, *told)
            else:
                told = rollout, dropped, carry, key, later
                given = settings, agent, memory, ranking, book, *told
                learned, memory, ranking, book, healthy, move = self._learn_and_add(spare, *given)
            if not warm:
                agent, spare = learned, agent
            key = later
            if ended.max() > most:
                break
        done, self.spare = book.tree, spare
        if warm:  # learning has set them otherwise; copied, for the book is donated
            agent = Packed(set_clock(agent.tree, jnp.copy(done.steps), jnp.copy(done.total)))
        return done._replace(agent=agent.tree, memory=ranked(memory.tree, ranking.tree), carry=carry, key=key)

    def point(self, book: Packed) -> PyTree:
        """What schedules run over, of all runs [R]; None where there are none."""
        return book.tree._replace(now=(), tally=(), iterations=()) if self.changing else None

    def rollout(self, agent: Packed, carry: PyTree, key: Array, point: PyTree, move: Any, warm: bool):
        """A `Rollout` of every environment of every run, leaves [R, T, E, ...]; where a restart dropped the episode, as
        bool [R, T, E] (None if nothing restarts); the next carry and key.

        `move` is its first step's action, carry, extras and key.
        """
        act, now, length = partial(self._act[warm], self.settings, agent), self.observe(), self.algorithm.rollout_length
        start, steps, dropped = carry, [], []
        for i in range(length):
            action, carry, extras, key = act(carry, now, key, point) if i else move
            action = np.asarray(action)
            if not self.healthy.all():
                action = harmless(self.spec.action, action.copy(), now, ~self.healthy)
            flat = action.reshape((-1, *action.shape[2:]))
            later = self.split(self.batch.step(flat))
            steps.append(transition(now, action, extras, later))
            dropped.append(self.split(self.batch.dropped))
            now = later._replace(earned={})
        self.now = now
        if self.mends:
            steps, dropped = without(steps, dropped, self.before)
            self.before = steps[-1]
        if len(steps) == 1:
            stacked = jax.tree.map(lambda x: x[:, None], steps[0])
        else:
            stacked = jax.tree.map(lambda *xs: np.stack(xs, 1), *steps)
        return Rollout(stacked, start, now), np.stack(dropped, 1) if self.mends else None, carry, key

    def observe(self) -> Timestep:
        """The present timestep, [R, E, ...]; the first call resets the environments."""
        if self.now is None:
            self.now = self.split(self.batch.reset())
        return self.now

    @property
    def restarts(self) -> int:
        """How often an environment was rebuilt after a fault."""
        return self.batch.restarts

    def split(self, now: PyTree) -> PyTree:
        """[R·E, ...] to [R, E, ...]."""
        shape = (self.runs, self.algorithm.num_envs)
        return jax.tree.map(lambda x: x.reshape(shape + x.shape[1:]), now)


def harmless(space: Space, action: np.ndarray, now: Timestep, runs: np.ndarray) -> np.ndarray:
    """Actions [R, E, ...] with those of the diverged `runs` replaced by legal ones: the first, or zeros."""
    action[runs] = 0
    mask = now.info.get("mask")
    if mask is not None and isinstance(space, (Discrete, MultiDiscrete)):
        sizes = np.ravel(space.nvec if isinstance(space, MultiDiscrete) else space.n)
        parts = np.split(np.asarray(mask), np.cumsum(sizes)[:-1], -1)
        first = np.stack([part.argmax(-1) for part in parts], -1).reshape(action.shape)
        action[runs] = first[runs]
    if mask is not None and isinstance(space, Mixed):
        parts = np.split(np.asarray(mask), np.cumsum(mask_sizes(space))[:-1], -1)
        action[..., space.choices] = np.where(
            runs[:, None, None], np.stack([part.argmax(-1) for part in parts], -1), action[..., space.choices]
        )
    return action


def _init_run(algorithm: Any, spec: Spec, key: Array, now: Timestep, earned: dict[str, PyTree]) -> RunState:
    ikey, key = jax.random.split(key)
    algorithm = settled(algorithm, 0, spec.steps, 0)
    agent = algorithm.init(ikey, spec)
    carry = algorithm.carry(algorithm.actor(agent), algorithm.num_envs)
    example, later = jax.eval_shape(partial(_example, algorithm), agent, carry, now, earned, key)
    check_kind(algorithm, "act", carry, later)
    memory, zero = init_memory(algorithm, example, spec), jnp.int32(0)
    after, _, metrics = jax.eval_shape(partial(improve, algorithm), agent, memory, example, key)
    check_kind(algorithm, "update" if replays(algorithm) else "learn", agent, after)
    seen = jax.eval_shape(partial(health, spec.observation), example.steps).metrics
    episodes = Episodes.start(algorithm.num_envs, steps_of(algorithm), example.steps.info)
    tally = Tally.start({**seen, **_named(metrics)})
    return RunState(agent, memory, (), carry, key, zero, jnp.int32(spec.steps), zero, episodes, tally)


def _example(
    algorithm: Any, agent: PyTree, carry: PyTree, now: Timestep, earned: dict[str, PyTree], key: Array
) -> tuple[Rollout, PyTree]:
    action, later, extras = algorithm.act(algorithm.actor(agent), carry, now, key, True)
    step = transition(now, action, extras, now._replace(earned=earned))
    steps = jax.tree.map(lambda x: jnp.broadcast_to(x, (algorithm.rollout_length, *x.shape)), step)
    return Rollout(steps, carry, now), later


def _named(metrics: Metrics) -> Metrics:
    return {f"train/{name}": value for name, value in metrics.items()}


def _written(
    algorithm: Any, spec: Spec, book: RunState, rollout: Rollout, dropped: Array | None, metrics: Metrics | None
) -> RunState:
    """The book with a rollout, and what learning said beside it if it did, written down."""
    record = book.tally.watch if metrics is None else book.tally.add
    tally = record(_named(metrics or {}), book.iterations, health(spec.observation, rollout.steps))
    episodes = book.episodes.add(rollout.steps, book.steps, dropped)
    steps, iterations = book.steps + steps_of(algorithm), book.iterations + 1
    return book._replace(steps=steps, iterations=iterations, episodes=episodes, tally=tally)
