"""What every driver does with an algorithm, whoever produces the experience.

An on-policy algorithm has `learn(state, rollout, key)`. An off-policy one has `update(state, batch, key)`, a `replay`
and a `replay_ratio`: a rollout is then added to the memory, and batches are drawn from it. Adding and improving are
two functions, so that a driver can donate the storage to the first and hand it read-only to the second, but for its
ranking, the small part that learning rewrites: a memory with a method `rank(ranking, batch, metrics)` is told of every
update, whose metrics may be one number for each row of the batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from thorndike.configuration import require
from thorndike.drivers.given import unbound
from thorndike.envs.conformance import difference
from thorndike.envs.masks import mask_size
from thorndike.envs.mixed import Mixed
from thorndike.nets.policy import Actions
from thorndike.types import Array, Clock, Metrics, PyTree, Rollout, Spec, Timestep


def replays(algorithm: Any) -> bool:
    """Whether the algorithm learns from a memory."""
    return hasattr(algorithm, "update")


def steps_of(algorithm: Any) -> int:
    """Environment steps in a rollout."""
    return algorithm.num_envs * algorithm.rollout_length


def gradient_steps(algorithm: Any) -> int:
    """Updates from the memory after each rollout: `replay_ratio` for each of its environment steps.

    Raises:
        ConfigError: that is less than one.
    """
    steps, ratio = steps_of(algorithm), algorithm.replay_ratio
    n, name = round(ratio * steps), type(unbound(algorithm)).__name__
    require(
        n >= 1,
        f"{name}: replay_ratio {ratio:g} of a rollout of {steps} steps is less than one update: "
        f"set rollout_length to {-(-1 / ratio // algorithm.num_envs):.0f} or more",
    )
    return n


def warm_iterations(algorithm: Any) -> int:
    """Rollouts of random actions before the first update: at least one, for nothing is learned from no memory."""
    return max(1, -(-algorithm.replay.warmup // steps_of(algorithm))) if replays(algorithm) else 0


def init_memory(algorithm: Any, example: Rollout, spec: Spec) -> PyTree:
    """An empty memory for rollouts of the environment `spec` shaped like `example` [T, E, ...]; () where there is
    none."""
    if not replays(algorithm):
        return ()
    memory = algorithm.replay.init(jax.eval_shape(partial(remembered, algorithm), example))
    return algorithm.replay.bind(memory, spec) if hasattr(algorithm.replay, "bind") else memory


def remembered(algorithm: Any, rollout: Rollout) -> Rollout:
    """What of a rollout goes into the memory: all but what is only logged, unless the algorithm says what."""
    if hasattr(algorithm, "experience"):
        return algorithm.experience(rollout)
    info = {name: x for name, x in rollout.steps.info.items() if name != "log"}
    return rollout._replace(steps=rollout.steps._replace(info=info))


def collect(algorithm: Any, memory: PyTree, rollout: Rollout) -> PyTree:
    """The memory with a rollout added."""
    return algorithm.replay.add(memory, remembered(algorithm, rollout)) if replays(algorithm) else memory


def ranking_of(memory: PyTree) -> PyTree:
    """The part of a memory that learning rewrites; () mostly."""
    return getattr(memory, "ranking", ())


def ranked(memory: PyTree, ranking: PyTree) -> PyTree:
    """The memory with another ranking."""
    return memory._replace(ranking=ranking) if hasattr(memory, "ranking") else memory


def improve(
    algorithm: Any, agent: PyTree, memory: PyTree, rollout: Rollout, key: Array
) -> tuple[PyTree, PyTree, Metrics]:
    """Learn from a rollout, or from the memory: the agent, the memory's ranking, and metrics, which are means over rows
    and gradient steps."""
    if not replays(algorithm):
        agent, metrics = algorithm.learn(agent, rollout, key)
        return agent, (), jax.tree.map(jnp.mean, metrics)
    replay = algorithm.replay

    def step(carry: PyTree, key: Array):
        agent, ranking = carry
        skey, ukey = jax.random.split(key)
        batch = replay.sample(ranked(memory, ranking), skey)
        agent, metrics = algorithm.update(agent, batch, ukey)
        if hasattr(replay, "rank"):
            ranking = replay.rank(ranking, batch, metrics)
        return (agent, ranking), jax.tree.map(jnp.mean, metrics)

    n, carry = gradient_steps(algorithm), (agent, ranking_of(memory))
    if n == 1:
        carry, metrics = step(carry, key)
    else:
        carry, metrics = jax.lax.scan(step, carry, jax.random.split(key, n))
        metrics = jax.tree.map(jnp.mean, metrics)
    return *carry, metrics


def check_kind(algorithm: Any, method: str, expected: PyTree, found: PyTree) -> None:
    """Raise `ConfigError` unless what a method hands on has the structure, shapes and dtypes of what it was given."""
    problem = difference(*jax.eval_shape(lambda *trees: trees, expected, found))
    name = type(unbound(algorithm)).__name__
    require(problem is None, f"{name}.{method} hands on something of another kind: {problem}")


def set_clock(agent: PyTree, steps: Array, total: Array) -> PyTree:
    """The agent's state with every `Clock` in it showing `steps` of `total`."""
    is_clock = lambda x: isinstance(x, Clock)  # noqa: E731
    return jax.tree.map(lambda x: Clock(steps, total) if is_clock(x) else x, agent, is_leaf=is_clock)


def done_at_random(
    algorithm: Any, space: Space, actor: PyTree, carry: PyTree, action: PyTree, now: Timestep, key: Array
) -> tuple[PyTree, PyTree]:
    """A random action in the place of the `action` that `act` chose, and the carry that knows what was done."""
    action = random_action(space, now, key).astype(action.dtype)
    return action, algorithm.taken(actor, carry, action) if hasattr(algorithm, "taken") else carry


def random_action(space: Space, now: Timestep, key: Array) -> Array:
    """A uniformly random legal action for each environment [E, ...], as an algorithm would emit it (from 0).

    Where a Box has one bound or none, uniform over what networks see as [-1, 1].
    """
    n = now.reward.shape[0]
    if isinstance(space, (Discrete, MultiDiscrete)):
        sizes = np.ravel(space.nvec if isinstance(space, MultiDiscrete) else space.n)
        noise, mask = jax.random.uniform(key, (n, int(sizes.sum()))), now.info.get("mask")
        noise = noise if mask is None else jnp.where(mask, noise, -1.0)
        parts = jnp.split(noise, np.cumsum(sizes)[:-1], -1)
        return jnp.stack([part.argmax(-1) for part in parts], -1).reshape(n, *(space.shape or ()))
    if isinstance(space, MultiBinary):
        bits, mask = jax.random.bernoulli(key, 0.5, (n, *space.shape)), now.info.get("mask")
        if mask is not None:
            zero, one = jnp.moveaxis(mask.reshape((n, *space.shape, 2)), -1, 0)  # whether a bit may be 0, and 1
            bits = jnp.where(zero & one, bits, one)
        return bits.astype(jnp.int8)
    if isinstance(space, Mixed):
        mask, begin, columns = now.info.get("mask"), 0, []
        for part, own_key in zip(space.parts, jax.random.split(key, len(space.parts))):
            end = begin + mask_size(part)
            own = {} if mask is None or end == begin else {"mask": mask[:, begin:end]}
            begin, drawn = end, random_action(part, now._replace(info=own), own_key)
            columns.append(drawn.reshape(n, -1).astype(jnp.float32))
        return jnp.concatenate(columns, -1)
    assert isinstance(space, Box), space
    actions = Actions.of(space)
    return actions.to_environment(jax.random.uniform(key, (n, actions.dimensions), minval=-1.0, maxval=1.0))
