"""The driver for JAX environments: acting, stepping and learning in one compiled loop.

Only here and in the other drivers are `jit`, donation, seeds and devices. The loop's length is an argument of the
compiled program, so one compilation serves chunks of any length; it stops by itself once every run has
had a metric that is not finite. Runs (seeds, configurations of a sweep) are an axis under `vmap`, shared over the
devices where they divide; one that diverges harms no other.
"""

from __future__ import annotations

from functools import partial
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from thorndike.drivers.given import Bound, map_settings
from thorndike.drivers.health import Health, health
from thorndike.drivers.learner import (
    check_kind,
    collect,
    done_at_random,
    improve,
    init_memory,
    ranked,
    replays,
    set_clock,
    steps_of,
    warm_iterations,
)
from thorndike.drivers.program import once, options
from thorndike.drivers.state import Episodes, RunState, Tally
from thorndike.envs.batched import Batched
from thorndike.ops.keys import random_key
from thorndike.schedules import settled
from thorndike.types import SHOWN, Array, Metrics, PyTree, Rollout, Spec, Timestep, Transition

ANY = 2**30  # number of episodes


def step_world(algorithm: Any, world: Batched, actor: PyTree, carry: PyTree, now: Timestep, key: Array, how: str):
    """One step of every environment; `how` is "explore", "exploit" or "random"."""
    akey, skey = jax.random.split(key)
    action, next_carry, extras = algorithm.act(actor, carry, now, akey, how != "exploit")
    if how == "random":
        action, next_carry = done_at_random(algorithm, world.env.action_space, actor, next_carry, action, now, akey)
    later = world.step(now, action, skey)
    return later._replace(earned={}), next_carry, transition(now, action, extras, later)


def transition(now: Timestep, action: PyTree, extras: dict[str, PyTree], later: Timestep) -> Transition:
    """The step from `now` to `later`."""
    shown = [name for name in SHOWN if name in now.info]
    info = {name: now.info[name] for name in shown} | {f"next_{name}": later.info[f"final_{name}"] for name in shown}
    info |= later.earned
    ending = (later.reward, later.terminated, later.truncated, later.final_obs)
    return Transition(now.obs, now.first, action, extras, *ending, info)


def rollout(
    algorithm: Any,
    world: Batched,
    actor: PyTree,
    carry: PyTree,
    now: Timestep,
    key: Array,
    how: str,
    length: int | None = None,
):
    """A `Rollout` of `length` steps (None: `algorithm.rollout_length`), and the timestep and carry after it."""
    length = algorithm.rollout_length if length is None else length

    def step(state, key):
        now, carry = state
        now, carry, done = step_world(algorithm, world, actor, carry, now, key, how)
        return (now, carry), done

    if length == 1:
        (later, next_carry), done = step((now, carry), key)
        steps = jax.tree.map(lambda x: x[None], done)
    else:
        (later, next_carry), steps = jax.lax.scan(step, (now, carry), jax.random.split(key, length))
    return Rollout(steps, carry, later._replace(sim=())), later, next_carry


def gathered(algorithm: Any, world: Batched, actor: PyTree, carry: PyTree, now: Timestep, key: Array, how: str):
    """The experience of one iteration: a rollout, or what an algorithm gathers by rollouts of its own choice."""
    if not hasattr(algorithm, "gather"):
        return rollout(algorithm, world, actor, carry, now, key, how)
    return algorithm.gather(partial(rollout, algorithm), world, actor, carry, now, key, how)


def outline(algorithm: Any, world: Batched, spec: Spec) -> tuple[Rollout, Metrics]:
    """Shapes of a rollout and of the metrics of learning from it.

    Raises:
        ConfigError: if what learning hands on is of another kind than what it was given.
    """

    algorithm = settled(algorithm, 0, spec.steps, 0)

    def first(key):
        agent, now = algorithm.init(key, spec), world.reset(key)
        actor = algorithm.actor(agent)
        carry = algorithm.carry(actor, algorithm.num_envs)
        experience = gathered(algorithm, world, actor, carry, now, key, "explore")[0]
        memory = init_memory(algorithm, experience, spec)
        after, _, metrics, seen = _learn(algorithm, world.env, agent, memory, experience, key)
        return experience, {**seen.metrics, **metrics}, agent, after

    experience, metrics, agent, after = jax.eval_shape(first, random_key(0))
    check_kind(algorithm, "update" if replays(algorithm) else "learn", agent, after)
    return experience, metrics


def init_run(algorithm: Any, world: Batched, spec: Spec, shapes: tuple[Rollout, Metrics], key: Array) -> RunState:
    """The state of one run before its first step; `shapes` from `outline`."""
    algorithm = settled(algorithm, 0, spec.steps, 0)
    ikey, wkey, key = jax.random.split(key, 3)
    agent, now = algorithm.init(ikey, spec), world.reset(wkey)
    carry = algorithm.carry(algorithm.actor(agent), algorithm.num_envs)
    zero, (experience, metrics) = jnp.int32(0), shapes
    episodes = Episodes.start(algorithm.num_envs, steps_of(algorithm), experience.steps.info)
    tally = Tally.start(metrics)
    memory, total = init_memory(algorithm, experience, spec), jnp.int32(spec.steps)
    return RunState(agent, memory, now, carry, key, zero, total, zero, episodes, tally)


def _learn(
    algorithm: Any, env: Any, agent: PyTree, memory: PyTree, experience: Rollout, key: Array
) -> tuple[PyTree, PyTree, Metrics, Health]:
    memory = collect(algorithm, memory, experience)
    agent, ranking, metrics = improve(algorithm, agent, memory, experience, key)
    memory = ranked(memory, ranking)
    named = {f"train/{name}": value for name, value in metrics.items()}
    return agent, memory, named, health(env.observation_space, experience.steps, env.action_space)


def iterate(algorithm: Any, world: Batched, state: RunState, warm: bool, warmup: str = "random") -> RunState:
    """One rollout and what is learned from it; with `warm` it only fills the memory, by actions as `warmup` says."""
    algorithm = settled(algorithm, state.steps, state.total, state.episodes.count)
    key, rkey, lkey = jax.random.split(state.key, 3)
    env = world.env
    actor = algorithm.actor(state.agent)
    how = warmup if warm else "explore"
    experience, now, carry = gathered(algorithm, world, actor, state.carry, state.now, rkey, how)
    steps = state.steps + algorithm.rollout_length * algorithm.num_envs
    if warm:
        agent, memory = state.agent, collect(algorithm, state.memory, experience)
        seen = health(env.observation_space, experience.steps, env.action_space)
        tally = state.tally.watch({}, state.iterations, seen)
    else:
        agent, memory, metrics, seen = _learn(algorithm, env, state.agent, state.memory, experience, lkey)
        tally = state.tally.add(metrics, state.iterations, seen)
    agent = set_clock(agent, steps, state.total)
    episodes = state.episodes.add(experience.steps, state.steps)
    return RunState(agent, memory, now, carry, key, steps, state.total, state.iterations + 1, episodes, tally)


def axes(config: Any) -> Any:
    """`vmap` axes of the leaves of an algorithm or an environment: 0 for the arrays of a sweep, None for numbers."""
    if isinstance(config, Bound):  # what is given is the same for all runs
        return Bound(axes(config.algorithm), None)  # type: ignore[arg-type]
    return jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) == 1 else None, config)


def member(config: Any, index: Any) -> Any:
    """The algorithm, or the environment, of one run: the numbers at `index` of the arrays of a sweep."""
    return map_settings(lambda x: jnp.asarray(x)[index] if np.ndim(x) else x, config)


def members_of(config: Any, index: np.ndarray) -> Any:
    """The algorithm, or the environment, of several runs."""
    return map_settings(lambda x: np.asarray(x)[index] if np.ndim(x) else x, config)


def _chunk(
    algorithm: Any, world: Batched, state: RunState, n: Array, fresh: Array, most: Array, warm: bool, warmup: str
) -> RunState:
    state = state._replace(tally=state.tally.restart(fresh))
    runs = state.steps.shape[0]
    one = partial(iterate, warm=warm, warmup=warmup)
    if runs == 1:  # without a batch axis the kernels are the plain ones
        algorithm, world, state = member(algorithm, 0), member(world, 0), jax.tree.map(lambda x: x[0], state)
        step = lambda s: one(algorithm, world, s)  # noqa: E731
    else:
        step = lambda s: jax.vmap(one, in_axes=(axes(algorithm), axes(world), 0))(algorithm, world, s)  # noqa: E731
    last = state.episodes.count + most

    def going(carry):
        i, state = carry
        return (i < n) & state.tally.healthy().any() & (state.episodes.count <= last).all()

    _, state = jax.lax.while_loop(going, lambda carry: (carry[0] + 1, step(carry[1])), (0, state))
    return jax.tree.map(lambda x: x[None], state) if runs == 1 else state


def _none(x: Any) -> bool:
    return x is None


def devices_for(runs: int) -> int:
    """How many devices share `runs`: the most that divide them."""
    return max(d for d in range(1, jax.device_count() + 1) if runs % d == 0)


class ScanDriver:
    """Owns the compiled programs of one (algorithm, environment, number of runs)."""

    simulates = True  # the simulator is part of the run state
    lazy = False  # programs compile before they are first called, not then

    def __init__(self, algorithm: Any, env: Any, spec: Spec, runs: int, warmup: str = "random"):
        """`warmup` is how the first actions are chosen, which only fill the memory: "random" or "explore"."""
        self.algorithm, self.spec, self.runs = algorithm, spec, runs
        self.chunk, self.warm_iterations = steps_of(algorithm), warm_iterations(algorithm)
        self.world, self.warmup = Batched(env, algorithm.num_envs), warmup
        self._shapes: Any = None
        self._tracing = Lock()
        self.mesh = Mesh(np.array(jax.devices()[: devices_for(runs)]), ("runs",))

        def advance(algorithm, world, state, n, fresh, most, warm):
            f = partial(_chunk, warm=warm, warmup=warmup)
            if self.mesh.size == 1:
                return f(algorithm, world, state, n, fresh, most)
            shared = lambda axis: P() if axis is None else P("runs")  # noqa: E731
            swept = (jax.tree.map(shared, axes(config), is_leaf=_none) for config in (algorithm, world))
            specs = (*swept, P("runs"), P(), P(), P())
            return jax.shard_map(f, mesh=self.mesh, in_specs=specs, out_specs=P("runs"), check_vma=False)(
                algorithm, world, state, n, fresh, most
            )

        self._advance = jax.jit(advance, static_argnums=6, donate_argnums=2)
        self._compiled: dict[bool, Any] = {}

    def __enter__(self) -> ScanDriver:
        return self

    def __exit__(self, *exc: Any) -> None:
        """Nothing to release."""

    @property
    def shapes(self) -> tuple[Rollout, Metrics]:
        """Of `outline`: traced once, by the thread that first needs them."""
        with self._tracing:
            if self._shapes is None:
                self._shapes = outline(member(self.algorithm, 0), member(self.world, 0), self.spec)
            return self._shapes

    @property
    def devices(self) -> int:
        """How many devices share the runs."""
        return self.mesh.size

    def init(self, keys: Array) -> RunState:
        """States of all runs, [R]; made one after another, as each alone would be."""
        shapes = self.shapes

        def one(i):
            return init_run(member(self.algorithm, i), member(self.world, i), self.spec, shapes, keys[i])

        return self.place(once(lambda: jax.lax.map(one, jnp.arange(self.runs))))

    def like(self) -> RunState:
        """Shapes of the state, and how it lies on the devices."""
        algorithm, world = member(self.algorithm, 0), member(self.world, 0)
        keys = jax.vmap(random_key)(jnp.zeros(self.runs, jnp.uint32))
        shapes = jax.eval_shape(jax.vmap(partial(init_run, algorithm, world, self.spec, self.shapes)), keys)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.layout), shapes)

    @property
    def layout(self) -> Any:
        """Where the state lies: its runs shared over the mesh."""
        return NamedSharding(self.mesh, P("runs")) if self.mesh.size > 1 else SingleDeviceSharding(jax.devices()[0])

    def place(self, state: RunState) -> RunState:
        """The state, laid out over the devices as the compiled programs take it."""
        return jax.device_put(state, self.layout)

    def compile(self, warm: bool = False) -> Any:
        """Compile the program that `advance` calls; returned for those who want to look at it."""
        if warm not in self._compiled:
            state = self.like()
            numbers = np.int32(1), np.bool_(False), np.int32(ANY)
            lowered = self._advance.lower(self.algorithm, self.world, state, *numbers, warm)
            self._compiled[warm] = lowered.compile(options(state.agent))
        return self._compiled[warm]

    def advance(
        self, state: RunState, iterations: int, warm: bool = False, fresh: bool = False, most: int = ANY
    ) -> RunState:
        """`iterations` iterations later, fewer where in some run more than `most` episodes have ended before.

        The argument is donated: do not use it again. With `fresh` the metric sums begin anew; with `warm` nothing is
        learned.
        """
        numbers = np.int32(iterations), np.bool_(fresh), np.int32(most)
        return self.compile(warm)(self.algorithm, self.world, state, *numbers)
