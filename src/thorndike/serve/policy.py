"""An agent as one function of what it sees: the greedy action with all that belongs to it, traced and as a graph."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Dict, Tuple
from jax.dtypes import canonicalize_dtype

from thorndike.envs.batched import to_environment
from thorndike.envs.masks import mask_size
from thorndike.envs.mixed import Mixed
from thorndike.errors import IncompatibleError
from thorndike.nets.torso import leaves
from thorndike.ops.keys import random_key
from thorndike.serve.graph import Graph, Length, Scope, Tensor, length
from thorndike.types import Timestep


@dataclasses.dataclass
class Port:
    """An input or an output of the graph."""

    name: str
    dtype: str
    shape: tuple[Length, ...]
    tensor: str = ""  # of an output: what it is called inside


@dataclasses.dataclass
class Policy:
    """The graph of an agent's greedy action.

    Inputs are "obs" (of parts "obs.NAME"), "mask" where actions may be illegal, and of agents with memory "first" (an
    episode begins) and "carry.N"; outputs are "action", as the environment takes it, and "next.N", the carry for
    the next call. A new episode needs nothing but "first", and zeros as carry.
    """

    graph: Graph
    inputs: list[Port]
    outputs: list[Port]
    batch: int | None  # None: of any size


def names_of(space: Any, prefix: str = "obs") -> list[str]:
    """The names of the parts of an observation, in the order of its leaves."""
    if isinstance(space, Dict):
        parts = {name: part for name, part in space.spaces.items()}
        return [found for name in sorted(parts) for found in names_of(parts[name], f"{prefix}.{name}")]
    if isinstance(space, Tuple):
        return [found for i, part in enumerate(space.spaces) for found in names_of(part, f"{prefix}.{i}")]
    return [prefix]


def policy_of(agent: Any) -> Policy:
    """The graph for batches of any size, or where the agent does not allow that for a single observation.

    Raises:
        IncompatibleError: something in it has no translation; says what.
    """
    if agent.spec.players > 1:
        raise IncompatibleError(f"{agent!r} searches before each move, and a search cannot be exported")
    if isinstance(agent.spec.action, Mixed):
        raise IncompatibleError(f"{agent!r} has actions of several parts, which cannot be exported")
    try:
        return _traced(agent, None)
    except Exception:  # of a batch of unknown size, JAX or a network may say anything
        pass
    try:
        return _traced(agent, 1)
    except IncompatibleError as error:
        raise IncompatibleError(f"{agent!r} cannot be exported: {error}") from None
    except Exception as error:  # an algorithm that needs more than what is seen
        raise IncompatibleError(f"{agent!r} cannot be exported: {type(error).__name__}: {error}") from error


def _traced(agent: Any, batch: int | None) -> Policy:
    spec, (size,) = agent.spec, jax.export.symbolic_shape("b") if batch is None else (batch,)
    spaces = leaves(spec.observation)
    shapes = [jax.ShapeDtypeStruct((size, *(s.shape or ())), canonicalize_dtype(s.dtype)) for s in spaces]
    sample = spec.observation.sample()
    structure = jax.tree.structure(sample)
    arguments = dict(zip(names_of(spec.observation), shapes))
    if spec.masked:
        arguments["mask"] = jax.ShapeDtypeStruct((size, mask_size(spec.action)), bool)
    arguments["first"] = jax.ShapeDtypeStruct((size,), bool)
    start = agent.algorithm.carry(agent.actor, 2)
    carried, of_carry = jax.tree.flatten(start)
    kept = [f"carry.{i}" for i in range(len(carried))]
    arguments |= {
        name: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for name, x in zip(kept, map(jnp.asarray, carried))
    }

    def act(given: dict[str, Any]) -> dict[str, Any]:
        obs = jax.tree.unflatten(structure, [given[name] for name in names_of(spec.observation)])
        n = given["first"].shape[0]
        none, zero = jnp.zeros(n, bool), jnp.zeros(n)
        info = {"mask": given["mask"]} if spec.masked else {}
        now = Timestep(obs, zero, none, none, obs, given["first"], info)
        carry = jax.tree.unflatten(of_carry, [given[name] for name in kept])
        action, after, _ = agent.algorithm.act(agent.actor, carry, now, random_key(0), False)
        action = to_environment(spec.action, action)
        return {"action": action, **dict(zip(kept, jax.tree.leaves(after)))}

    order = sorted(arguments)  # as JAX flattens a dict
    closed, out = jax.make_jaxpr(act, return_shape=True)(arguments)
    graph = Graph()
    tensors = [lambda name=name: _seen(graph, name) for name in order]
    scope = Scope(graph, closed.jaxpr, closed.consts, tensors)
    reads, results = dict(zip(sorted(out), scope.outputs())), {}
    waiting = ["action"]
    while waiting:  # of its memory only what later actions depend on
        name = waiting.pop()
        value = reads[name]()
        results[name] = value if isinstance(value, Tensor) else graph.add("Identity", value)
        waiting += [x for x in kept if x in graph.used and x not in results and x not in waiting]
    if not graph.used & set(names_of(spec.observation)):
        raise IncompatibleError("its action does not depend on what it sees")
    final = np.dtype(spec.action.dtype).name
    results["action"] = graph.add("Cast", results["action"], to=final)
    if batch is None and length(out["action"].shape[0]) != length(size):
        raise IncompatibleError("its batch changes its size")
    inputs = [_port(name, x) for name, x in arguments.items() if name in graph.used or name.startswith("obs")]
    outputs = [
        dataclasses.replace(
            _port(n, out[n]),
            name=n.replace("carry", "next"),
            tensor=t.name,
            **({"dtype": final} if n == "action" else {}),
        )
        for n, t in results.items()
    ]
    return Policy(graph, inputs, outputs, batch)


def _seen(graph: Graph, name: str) -> Tensor:
    graph.used.add(name)
    return Tensor(name)


def _port(name: str, x: Any) -> Port:
    return Port(name, np.dtype(x.dtype).name, tuple(map(length, x.shape)))
