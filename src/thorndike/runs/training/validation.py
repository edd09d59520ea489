"""Everything that can be wrong before a run starts, and what to do about it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Dict, Tuple

from thorndike.checks.answers import check_decorated, check_methods, is_own, lacking
from thorndike.choosing import able, serves
from thorndike.configuration import check, is_config, is_whole, require, swept
from thorndike.drivers.learner import gradient_steps, random_action, replays
from thorndike.drivers.scan import member
from thorndike.envs.batched import Batched, is_jax
from thorndike.envs.wrappers.base import layers
from thorndike.envs.wrappers.randomised import numbers
from thorndike.envs.wrappers.shaping import Shaping
from thorndike.errors import CheckpointError, ConfigError, EnvError, IncompatibleError
from thorndike.memory.dataset import Dataset
from thorndike.memory.hindsight import Hindsight
from thorndike.memory.sequences import Sequences
from thorndike.nets.torso import leaves
from thorndike.ops.keys import random_key
from thorndike.runs.results.given import Agents, bound
from thorndike.runs.storage.environments import describe
from thorndike.runs.storage.spaces import space_to_json
from thorndike.schedules import is_schedule, scheduled


def validate(algorithm: Any, env: Any, steps: int, seeds: int, agents: Agents | None = None) -> None:
    """What can be wrong with an algorithm and an environment, each alone and together, and with the agents that the
    algorithm is given."""
    if not (is_config(algorithm) and hasattr(algorithm, "act")):
        raise ConfigError(f"{algorithm!r} is not an algorithm: give one like td.PPO(), or a name like 'ppo'")
    check_decorated(algorithm)
    check_algorithm(algorithm)
    check(algorithm)
    if is_config(env):
        check_decorated(env)
        require(not scheduled(env), "schedules are for an algorithm's numbers, not an environment's")
        check(env)
        several = swept((algorithm, env)) and swept(env)
        require(not several or getattr(env, "players", 1) == 1, "the numbers of a game cannot be swept")
        ahead = getattr(algorithm, "looks_ahead", False)
        require(
            not (several and ahead),
            f"{type(algorithm).__name__} plans with the environment's numbers, which cannot be swept then: train once "
            "for each",
        )
        env = member(env, 0)
    if is_jax(env):
        limit: Any = getattr(env, "max_steps", None)
        name = type(env).__name__
        require(
            is_whole(limit) and 0 < limit < 2**31,
            f"{name} needs max_steps, its time limit, in 32 bits: it is {limit!r}",
        )
        check_spaces(env)
        check_answers(env)
        check_shaping(algorithm, env)
    check_visits(algorithm)
    if replays(algorithm) and hasattr(algorithm, "replay_ratio"):
        gradient_steps(algorithm)
    require(is_whole(seeds) and seeds > 0, f"seeds must be a positive whole number, got {seeds!r}")
    check_observations(algorithm, env.observation_space)
    if 0 in (env.action_space.shape or ()):
        raise IncompatibleError(
            f"the action space is {env.action_space}, without any numbers: there is nothing to choose"
        )
    problem = serves(algorithm, describe(env, steps, ""))
    if problem:
        raise IncompatibleError(problem + "." + able(env))
    taught = bound(member(algorithm, 0), agents or {}, describe(env, steps, ""))
    if is_own(algorithm):
        check_methods(taught, env, describe(env, steps, ""))
    try:
        space_to_json(env.observation_space), space_to_json(env.action_space)
    except CheckpointError as error:  # an agent could be trained, and not be saved
        raise IncompatibleError(f"{error}; join what belongs together into one Box, or leave it out") from None


def check_visits(algorithm: Any) -> None:
    """A schedule that counts visits of pairs is for those that have a table of them."""
    for value in jax.tree.leaves(algorithm, is_leaf=is_schedule):
        if getattr(value, "per", "") == "visit" and not getattr(algorithm, "counts_visits", False):
            name = type(algorithm).__name__
            raise ConfigError(f"{value} counts visits of a pair of state and action: only tables do, {name} does not")


def check_algorithm(algorithm: Any) -> None:
    """It has what drivers call; one of your own may lack some of it."""
    name, updates = type(algorithm).__name__, hasattr(algorithm, "update")
    needed = ["init", "actor", "carry", "act", "supports", "num_envs", "rollout_length"]
    needed += ["replay", "replay_ratio"] if updates and not getattr(algorithm, "offline", False) else []
    lacked = [part for part in needed if not hasattr(algorithm, part)]
    lacked += [] if updates or hasattr(algorithm, "learn") else ["learn"]
    require(not lacked, lacking(algorithm, lacked))
    for part in ("num_envs", "rollout_length"):
        size = getattr(algorithm, part)
        require(is_whole(size) and size > 0, f"{name}.{part} must be a positive whole number, got {size!r}")


def check_spaces(env: Any) -> None:
    """A JAX environment's spaces are the same whatever its numbers are: programs see these as tracers."""
    env.observation_space, env.action_space  # noqa: B018  # what is wrong with them in themselves
    try:
        jax.eval_shape(lambda env: (env.observation_space, env.action_space, 0)[-1], env)
    except Exception as error:  # whatever a property of yours does with a tracer
        raise ConfigError(
            f"the spaces of {type(env).__name__} depend on its float fields, which compiled programs may change: "
            "let bounds be constants, or declare such a field as int"
        ) from error


def check_answers(env: Any) -> None:
    """A reset and a step of a JAX environment fit its spaces; traced here, where an error needs no long traceback."""

    def look(key):
        now = Batched(env, 1).reset(key)
        return Batched(env, 1).step(now, random_action(env.action_space, now, key), key)

    try:
        jax.eval_shape(look, jax.eval_shape(lambda: random_key(0)))
    except EnvError as error:
        raise EnvError(str(error)) from None


def check_shaping(algorithm: Any, env: Any) -> None:
    """Rewards are shaped with the discount that they are learned with: with another the best policy changes."""
    for learner, where in learners(algorithm):
        if "discount" not in numbers(learner):
            continue
        name, learned = f"{where}.discount", learner.discount
        for layer in layers(env):
            if isinstance(layer, Shaping):
                same = not is_config(learned) and bool(np.all(np.float32(learned) == np.float32(layer.discount)))
                both = f"Shaping.discount is {layer.discount} and {name} {learned}"
                require(same, f"{both}: rewards shaped so have another best policy; give both the same value")


def learners(algorithm: Any, name: str = "") -> Iterator[tuple[Any, str]]:
    """The algorithm, and those that it is made of, each with its dotted name."""
    name = name or type(algorithm).__name__
    yield algorithm, name
    for field in dataclasses.fields(algorithm):
        inner = getattr(algorithm, field.name)
        if is_config(inner) and hasattr(inner, "act"):
            yield from learners(inner, f"{name}.{field.name}")


def check_observations(algorithm: Any, space: Space) -> None:
    """An observation's parts have names that files can hold, and something to normalise where that is wanted."""
    if not leaves(space):
        raise IncompatibleError(
            f"the observation space is {space}, without any parts: give at least one, a constant say"
        )
    parts = [space]
    for part in parts:  # which grows
        if 0 in (part.shape or ()):
            raise IncompatibleError(f"the observation space has a part without any numbers, {part}: leave it out")
        if isinstance(part, Dict):
            odd = [key for key in part.spaces if not isinstance(key, str)]
            if odd:
                raise IncompatibleError(f"a Dict observation needs names as keys, and this has {odd[0]!r}: use strings")
        parts += part.spaces.values() if isinstance(part, Dict) else part.spaces if isinstance(part, Tuple) else ()


def validate_batch(algorithm: Any, env: Any) -> None:
    """What can be wrong with how many environments a run steps at once."""
    agents = getattr(env, "agents", 1)
    whole = algorithm.num_envs % agents == 0
    fitting = -(-algorithm.num_envs // agents) * agents
    require(whole, f"a world has {agents} agents, so num_envs must be a multiple of {agents}: {fitting}, say")


def open_dataset(algorithm: Any, dataset: Any, masked: bool) -> Dataset | None:
    """The dataset to learn from; raises where there has to be one, or the algorithm cannot use one."""
    name = type(algorithm).__name__
    if dataset is None:
        if getattr(algorithm, "offline", False):
            raise ConfigError(f"{name} learns from a dataset: give one, dataset=... (--dataset DIR)")
        return None
    whole = hasattr(algorithm, "experience") or isinstance(getattr(algorithm, "replay", None), (Sequences, Hindsight))
    if getattr(algorithm, "online", False):
        raise IncompatibleError(
            f"{name} draws which of its models learn from a step as it acts, which no dataset says: bc, dqn, sac learn "
            "from datasets"
        )
    if not replays(algorithm) or whole:
        raise IncompatibleError(
            f"{name} does not learn from single transitions, so not from a dataset: bc, dqn, sac do"
        )
    replay: Any = getattr(algorithm, "replay", None)
    if getattr(replay, "n_step", 1) > 1 or hasattr(replay, "rank"):
        raise IncompatibleError(
            f"from a dataset single steps are drawn, all equally often, which is not what {name}'s replay says: give "
            f"replay=td.Uniform(batch_size={replay.batch_size}) (--replay uniform)"
        )
    data = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
    if masked and data.masks is None and not getattr(algorithm, "offline", False):
        raise IncompatibleError(
            f"{data.path} does not say which actions were legal, and {name} would count on illegal ones: give one with "
            "masks (`thorndike record` makes such), or learn by bc"
        )
    return data


def validate_memory(shapes: Any) -> None:
    """Raise `ConfigError` where a replay memory of such arrays, over all runs, is more than the device has left."""
    need = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    left = free_memory()
    require(
        left is None or need <= left,
        f"the replay memory takes {need / 1e9:,.1f} GB, and {(left or 0) / 1e9:,.1f} GB are free: "
        "lower replay.capacity",
    )


def free_memory() -> float | None:
    """Bytes that the device has left, as far as that is known."""
    device, table = jax.devices()[0], Path("/proc/meminfo")
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    if device.platform != "cpu" or not table.is_file():
        return None
    lines = dict(line.split(":") for line in table.read_text().splitlines())
    return 1024.0 * int(lines["MemAvailable"].split()[0]) if "MemAvailable" in lines else None
