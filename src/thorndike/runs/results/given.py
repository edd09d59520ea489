"""What an algorithm is given beside its settings: trained agents, kept in the run's directory, each with its hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thorndike.configuration import require, types_in
from thorndike.drivers.given import Bound
from thorndike.drivers.scan import member
from thorndike.errors import CheckpointError, ConfigError, IncompatibleError
from thorndike.nets.frozen import Frozen
from thorndike.runs.results.agent import Agent, load
from thorndike.schedules import settled
from thorndike.types import Spec

FOLDER = "given"  # in the run's directory
Agents = dict[str, tuple[Agent, ...]]  # by what the algorithm calls them


def write(path: Path, agents: Agents) -> dict[str, Any]:
    """Keep the agents with the run at `path`; what `run.json` says of them."""
    record: dict[str, Any] = {}
    for name, some in agents.items():
        record[name] = []
        for i, agent in enumerate(some):
            file = agent.save(path / FOLDER / f"{name}-{i}.td")
            about = {"algorithm": type(agent.algorithm).__name__, "environment": agent.spec.id}
            record[name].append({"path": f"{FOLDER}/{file.name}", "sha256": _hash(file), **about})
    return record


def read(path: Path, record: dict[str, Any], classes: Any) -> Agents:
    """The agents that `write` kept.

    Raises:
        CheckpointError: one is not there, or is not what it was.
    """
    found = {}
    for name, some in record.items():
        for one in some:
            file = path / one["path"]
            if not file.is_file():
                raise CheckpointError(f"there is no file {file}: the run learns from it, so it cannot go on without")
            if _hash(file) != one["sha256"]:
                raise CheckpointError(f"{file} is not what the run was given: put back the file that it began with")
        found[name] = tuple(load(path / one["path"], classes) for one in some)
    return found


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def classes_of(agents: Agents) -> set[type]:
    """The config classes in the agents' settings."""
    return set().union(*(types_in(agent.algorithm) for some in agents.values() for agent in some))


def check_names(algorithm: Any, agents: Agents) -> None:
    """Raise `ConfigError` unless the algorithm is given what it takes, and nothing else."""
    takes, name = getattr(algorithm, "takes", ()), type(algorithm).__name__
    other = next((key for key in agents if key not in takes), None)
    require(other is None, f"{name} takes nothing called {other!r}" + (f": it takes {', '.join(takes)}" * bool(takes)))
    for key in takes:
        need = f"{name} learns from {key!r}: give it, given={{{key!r}: a run, an agent or a path}} (--given {key}=RUN)"
        require(key in agents, need)


def bound(algorithm: Any, agents: Agents, spec: Spec) -> Any:
    """The algorithm with what it is given, for a driver; the algorithm itself where that is nothing.

    Raises:
        IncompatibleError: an agent cannot act in such an environment, or is not what the algorithm needs.
    """
    check_names(algorithm, agents)
    if not agents:
        return algorithm
    given = {name: tuple(frozen(agent, spec, name) for agent in some) for name, some in agents.items()}
    one = settled(member(algorithm, 0), 0, 1, 0)
    problem = one.accepts(given, spec) if hasattr(one, "accepts") else None
    if problem:
        raise IncompatibleError(problem)
    return Bound(algorithm, given)


def frozen(agent: Agent, spec: Spec, name: str) -> Frozen:
    """An agent that does not learn, in an environment whose observation, or the part "obs" of that, is its own."""
    seen, known = spec.observation, agent.spec.observation
    parts = {"": seen} | ({"obs": seen["obs"]} if "obs" in getattr(seen, "spaces", {}) else {})  # type: ignore[index]
    part = next((part for part, space in parts.items() if space == known), None)
    if part is None:
        raise IncompatibleError(f"the {name} {agent!r} knows observations of {known}, and here they are of {seen}")
    if agent.spec.action != spec.action:
        raise IncompatibleError(f"the {name} {agent!r} acts in {agent.spec.action}, and here actions are {spec.action}")
    if agent.spec.masked and not spec.masked:
        raise IncompatibleError(f"the {name} {agent!r} chooses among legal actions, and here nothing says which are")
    if jax.tree.leaves(agent.algorithm.carry(agent.actor, 1)):
        raise IncompatibleError(f"the {name} {agent!r} has a memory, which is not kept for it: give one without")
    finite = all(np.isfinite(x).all() for x in jax.tree.leaves(agent.actor) if np.asarray(x).dtype.kind == "f")
    require(finite, f"the {name} {agent!r} is not finite: give another")
    return Frozen(member(agent.algorithm, 0), agent.actor, part)


def agents_in(given: Any) -> Agents:
    """The agents that `td.train` is given: each a run, whose first agent it is, an agent, or a path of either."""
    named = isinstance(given, dict) and all(isinstance(name, str) for name in given)
    require(given is None or named, f"given must be a dict, such as {{'teacher': run}}, got {given!r}")
    found = {}
    for name, some in (given or {}).items():
        each = tuple(some) if isinstance(some, (list, tuple)) else (some,)
        require(each != (), f"given[{name!r}] is empty: leave it out, or name an agent")
        found[name] = tuple(agent_of(one, name) for one in each)
    return found


def agent_of(one: Any, name: str) -> Agent:
    """One of these agents."""
    from thorndike.runs.results.run import open_run

    if isinstance(one, (str, Path)):
        path = Path(one).expanduser()
        one = open_run(path) if path.is_dir() else load(path)
    if isinstance(one, Agent):
        return one
    if not hasattr(one, "agent"):
        raise ConfigError(f"given[{name!r}] must be a run, an agent, or a path of either, got {one!r}")
    return one.agent()
