"""The driver for algorithms whose actors do not wait for the learner: `actors` threads, each with environments of its
own on the host, act by the newest parameters that there are, and the learner takes their rollouts as they come.

A queue holds at most one rollout for each actor, so an actor that is ahead waits, and what is learned from is seldom
older than twice as many updates as there are actors; `train/staleness` says how old it was. Parameters are values that
are never written to, so handing out the newest is handing out a reference, and needs no lock. What belongs to the
environments of one actor, episodes under way and discounted returns so far, is kept for each of them. The order in
which rollouts come is that of the clock: a run is not repeatable bit for bit.

Between two calls of `advance` the actors are stopped by the full queue. What is in it then is no part of the run state:
a resumed run begins new episodes.
"""

from __future__ import annotations

import queue
import threading
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import require
from thorndike.drivers.given import unbound
from thorndike.drivers.host import HostDriver, Packed, _written
from thorndike.drivers.learner import improve, replays, set_clock, steps_of
from thorndike.drivers.program import once, options
from thorndike.drivers.scan import ANY, member
from thorndike.drivers.state import RunState, Tally
from thorndike.ops.keys import random_key
from thorndike.ops.rewards import Scaling
from thorndike.schedules import settled
from thorndike.types import Array, PyTree, Rollout, Spec

APART = 7_919  # between the seeds of two actors' environments, and from a run's key to theirs
RUNNING = ("running_return", "running_length", "running_sums")  # of episodes under way: each actor has its own


class Published(NamedTuple):
    """What actors act by: the agent after so many updates."""

    version: int
    agent: Packed
    point: PyTree  # of the run, where there are schedules


class Delivery(NamedTuple):
    """A rollout, who made it, and by which agent."""

    actor: int
    rollout: Rollout
    dropped: Any
    by: Published


class AsyncDriver:
    """Owns the actors' threads and environments, and the learner's compiled program, of one run."""

    simulates = False
    lazy = True
    devices = 1

    def __init__(self, algorithm: Any, env: Any, spec: Spec, seeds: list[int], warmup: str = "random", **how: Any):
        """Arguments as of `HostDriver`; one seed only, because actors of several runs would have to share the cores."""
        name = type(unbound(algorithm)).__name__
        require(len(seeds) == 1, f"{name} with actors of its own trains one seed at a time: start a run for each")
        require(not replays(algorithm), f"{name} learns from a memory: actors are for those that learn from rollouts")
        self.algorithm, self.spec, self.runs = algorithm, spec, 1
        self.chunk, self.warm_iterations = steps_of(algorithm), 0
        starts = [seeds[0] + APART * k for k in range(algorithm.actors)]
        self.actors = [HostDriver(algorithm, env, spec, [seed % 2**31], warmup, **how) for seed in starts]
        for actor in self.actors[1:]:
            actor._act = self.actors[0]._act  # compiled once for all of them
        self.changing, self.settings = self.actors[0].changing, self.actors[0].settings
        self.queue: queue.Queue[Delivery | BaseException] = queue.Queue(algorithm.actors)
        self.threads: list[threading.Thread] = []
        self.stopping = threading.Event()
        self.version = 0
        self.running: list[Any] = [None] * algorithm.actors
        late = hasattr(algorithm, "learn_late")

        def learn(settings, staleness, agent, then, book, running, rollout, dropped, key):
            algorithm, book = member(settings.tree, 0), book.tree
            running, sums = running
            agent = Packed(with_sums(agent.tree, sums))
            if self.changing:
                algorithm = settled(algorithm, book.steps, book.total, book.episodes.count)
            key, lkey = jax.random.split(key)
            if late:
                agent, metrics = algorithm.learn_late(agent.tree, then.tree, rollout, lkey)
                metrics = jax.tree.map(jnp.mean, metrics)
            else:
                agent, _, metrics = improve(algorithm, agent.tree, (), rollout, lkey)
            agent = set_clock(agent, book.steps + self.chunk, book.total)
            book = book._replace(episodes=book.episodes._replace(**running))
            book = _written(algorithm, spec, book, rollout, dropped, {**metrics, "staleness": staleness})
            running = {name: getattr(book.episodes, name) for name in RUNNING}, sums_of(agent)
            return Packed(agent), Packed(book), running, book.tally.healthy(), key

        def single(settings, staleness, *args):
            out = learn(settings, staleness, *jax.tree.map(lambda x: x[0], args))
            return jax.tree.map(lambda x: x[None], out)

        shapes = jax.eval_shape(lambda: settled(member(algorithm, 0), 0, 1, 0).init(random_key(0), spec))
        self._learn = jax.jit(single, compiler_options=options(shapes))

    def __enter__(self) -> AsyncDriver:
        return self

    def __exit__(self, *exc: Any) -> None:
        """Stop the actors and close their environments."""
        self.stopping.set()
        for thread in self.threads:
            while thread.is_alive():
                self._drain()
                thread.join(0.05)
        for actor in self.actors:
            actor.batch.close()

    def _drain(self) -> None:
        while True:
            try:
                self.queue.get_nowait()
            except queue.Empty:
                return

    def init(self, keys: Array) -> RunState:
        """The state of the run, [1]."""
        return once(partial(self._states, keys))

    def _states(self, keys: Array) -> RunState:
        state = self.actors[0]._states(keys)
        names = [name for name in state.tally.names if name != "train/staleness"]
        tally = jax.tree.map(lambda x: x[None], Tally.start([*names, "train/staleness"]))
        return state._replace(tally=tally)

    def like(self) -> RunState:
        """Shapes of the state."""
        return jax.eval_shape(self._states, jax.vmap(random_key)(jnp.zeros(1, jnp.uint32)))

    def place(self, state: RunState) -> RunState:
        """The state on the device."""
        return jax.device_put(state)

    def compile(self, warm: bool) -> None:
        """Nothing: the programs compile when `advance` first calls them."""

    @property
    def restarts(self) -> int:
        """How often an environment was rebuilt after a fault."""
        return sum(actor.restarts for actor in self.actors)

    def advance(
        self, state: RunState, iterations: int, warm: bool = False, fresh: bool = False, most: int = ANY
    ) -> RunState:
        """`iterations` rollouts later, fewer where more than `most` episodes have ended, or a metric is not finite.

        With `fresh` the metric sums begin anew. Raises what an actor raised.
        """
        state = state._replace(tally=state.tally.restart(jnp.bool_(True))) if fresh else state
        agent, key, ended = Packed(state.agent), state.key, 0
        book = Packed(state._replace(agent=(), memory=(), carry=(), key=()))  # type: ignore[arg-type]
        self._publish(agent, book)
        self._begin(state)
        for _ in range(iterations):
            found = self._next()
            staleness, running = np.float32(self.version - found.by.version), self.running[found.actor]
            told = agent, found.by.agent, book, running, found.rollout, found.dropped, key
            agent, book, self.running[found.actor], healthy, key = self._learn(self.settings, staleness, *told)
            self.version += 1
            ended += int(np.asarray(found.rollout.steps.ended).sum())
            if not np.asarray(healthy).all():
                break  # nobody acts by parameters that may not be finite
            self._publish(agent, book)
            if ended > most:
                break
        return book.tree._replace(agent=agent.tree, memory=(), carry=state.carry, key=key)

    def _publish(self, agent: Packed, book: Packed) -> None:
        self.newest = Published(self.version, agent, self.actors[0].point(book))

    def _begin(self, state: RunState) -> None:
        """Start the threads, if they are not there yet."""
        if self.threads:
            return
        under_way = {name: getattr(state.episodes, name) for name in RUNNING}, sums_of(state.agent)
        nothing = jax.tree.map(jnp.zeros_like, under_way)
        self.running = [nothing for _ in self.actors]
        for k in range(len(self.actors)):
            key = jax.vmap(partial(jax.random.fold_in, data=APART + k))(state.key)  # no part of a split of it
            thread = threading.Thread(target=self._act, args=(k, state.carry, key), name=f"actor {k}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def _act(self, k: int, carry: PyTree, key: Array) -> None:
        """What a thread does: rollout after rollout, each by what is newest when it begins."""
        driver = self.actors[k]
        try:
            while not self.stopping.is_set():
                by = self.newest
                act = partial(driver._act[False], driver.settings, by.agent)
                move = act(carry, driver.observe(), key, by.point)
                rollout, dropped, carry, key = driver.rollout(by.agent, carry, key, by.point, move, False)
                self._deliver(Delivery(k, rollout, dropped, by))
        except BaseException as error:  # it is raised where the rollouts are waited for
            self._deliver(error)

    def _deliver(self, what: Delivery | BaseException) -> None:
        while not self.stopping.is_set():
            try:
                return self.queue.put(what, timeout=0.1)
            except queue.Full:
                continue

    def _next(self) -> Delivery:
        """The next rollout; the wait can be interrupted."""
        while True:
            try:
                found = self.queue.get(timeout=0.5)
            except queue.Empty:
                continue
            if isinstance(found, BaseException):
                raise found
            return found


def _is_scaling(x: Any) -> bool:
    return isinstance(x, Scaling)


def sums_of(agent: PyTree) -> list[Array]:
    """The discounted returns so far of one actor's environments, of each `Scaling` in an agent's state."""
    return [x.sums for x in jax.tree.leaves(agent, is_leaf=_is_scaling) if _is_scaling(x)]


def with_sums(agent: PyTree, sums: list[Array]) -> PyTree:
    """The agent with those of another actor."""
    each = iter(sums)
    return jax.tree.map(lambda x: x._replace(sums=next(each)) if _is_scaling(x) else x, agent, is_leaf=_is_scaling)
