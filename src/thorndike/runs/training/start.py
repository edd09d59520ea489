"""Warm starts: which arrays of a fresh agent come from elsewhere, and what is said of that."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import is_config, require
from thorndike.drivers.state import RunState
from thorndike.errors import ConfigError
from thorndike.runs.results.actors import expand, stacked_init
from thorndike.runs.training.sources import Source, dotted, is_of, source_of
from thorndike.schedules import settled
from thorndike.types import Clock, PyTree, Spec

STATISTICS = "statistics"  # of observations, as algorithms call them
SOME = 6  # names in an error


class Start:
    """What a training takes over from a `Source`.

    From a run of the same class whose arrays all fit, everything: optimiser, targets, statistics. Else, or with
    `parts`, every array of floats whose path, shape and dtype agree; the optimiser begins anew. Paths agree where one
    ends with the other: an actor's "policy.torso" is the state's "params.policy.torso". The clock begins anew always,
    and the optimiser wherever a network is frozen: Adam's moments of another training would move that, too.
    """

    def __init__(self, source: Source, algorithm: Any, agents: PyTree, parts: Iterable[str] | None = None):
        """`agents`: arrays or shapes of fresh states [R]; `parts`: paths of subtrees, to take no others.

        Raises:
            ConfigError: nothing fits, or a part does not; the source's agent has diverged; or one of the two
                normalises its observations and the other does not.
        """
        self.source, self.algorithm = source, algorithm
        leaves = jax.tree_util.tree_leaves_with_path(agents)
        self.shapes = {dotted(jax.tree_util.keystr(path)): leaf for path, leaf in leaves}
        optimiser, clock = _below(agents, _is_optimiser), _below(agents, lambda node: isinstance(node, Clock))
        networks = [name for name, x in self.shapes.items() if jnp.issubdtype(x.dtype, jnp.floating)]
        names = [name for name in self.shapes if name not in clock]
        parts = list(parts or ())
        whole = not parts and is_of(source, algorithm) and not _freezes(algorithm)  # moments would move what is frozen
        self.whole = whole and all(self.fits(name) for name in names)
        if not self.whole:
            names = [name for name in networks if name not in optimiser | clock]
        self.wanted = names
        self.taken = [name for name in names if self.fits(name) and (not parts or self.inside(name, parts))]
        self.check(parts)
        self.check_agent()

    def key(self, name: str) -> str | None:
        """What the source calls the array `name`; None where it has none of such a path."""
        words, known = name.split("."), self.source.arrays
        ends = (".".join(words[i:]) for i in range(len(words)))
        found = next((end for end in ends if end in known), None)
        return found or next((key for key in known if key.endswith(f".{name}")), None)

    def fits(self, name: str) -> bool:
        """Whether the source has such an array, of that shape and dtype."""
        key, here = self.key(name), self.shapes[name]
        there = None if key is None else self.source.arrays[key]
        return there is not None and there.shape[1:] == here.shape[1:] and there.dtype == here.dtype

    def inside(self, name: str, parts: list[str]) -> bool:
        """Whether it is in one of the parts, or a statistic of observations, which goes with a torso."""
        return any(_inside(name, part) for part in parts) or (
            _inside(name, STATISTICS) and any(_inside(other, "torso") for other in self.in_parts(parts))
        )

    def in_parts(self, parts: list[str]) -> list[str]:
        """The arrays in the parts themselves that fit."""
        return [name for name in self.wanted if any(_inside(name, part) for part in parts) and self.fits(name)]

    def check(self, parts: list[str]) -> None:
        """Raise `ConfigError` where nothing was found, or nothing of a part."""
        for part in parts:
            there = [name for name in self.wanted if _inside(name, part)]
            if not there:
                raise ConfigError(f"no part of {self.name} is called {part!r}: {_some(subtrees(self.wanted))}")
            if not any(map(self.fits, there)):
                raise ConfigError(f"nothing of {part!r} fits {self.source.name}: {_some(map(self.both, there))}")
        if not self.taken:
            why = _some(map(self.both, self.wanted))
            raise ConfigError(f"nothing of {self.source.name} fits {self.name}: {why}")
        torso = any(_inside(name, "torso") for name in self.taken)
        theirs, ours = (any(_inside(name, STATISTICS) for name in some) for some in (self.source.arrays, self.shapes))
        if torso and self.source.told and theirs != ours:
            does, does_not = (self.source.name, self.name) if theirs else (self.name, self.source.name)
            raise ConfigError(
                f"{does} normalises observations and {does_not} does not, so the networks would see other numbers than "
                f"they have learned from: set normalize_observation={theirs}"
            )

    def check_agent(self) -> None:
        """Raise `ConfigError` where what is taken is not finite."""
        runs = next(iter(self.shapes.values())).shape[0]
        for index in range(runs):
            at = self.source.diverged.get(self.rows(runs)[index])
            require(at is None, f"an agent of {self.source.name} diverged at step {at}: start from another")
        for name in self.taken:
            x = self.source.arrays[self.key(name) or ""]
            finite = x.dtype.kind != "f" or bool(np.isfinite(x[self.rows(runs)]).all())
            require(finite, f"{name} of {self.source.name} is not finite: start from something else")

    def rows(self, runs: int) -> list[int]:
        """Which of the source's agents each of the runs starts from."""
        return list(range(runs)) if self.source.agents == runs else [0] * runs

    def applied(self, state: RunState) -> RunState:
        """The state of fresh runs with what is taken."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(state.agent)
        rows = self.rows(len(state.steps))
        found = []
        for path, leaf in leaves:
            name = dotted(jax.tree_util.keystr(path))
            found.append(self.source.arrays[self.key(name) or ""][rows] if name in self.taken else leaf)
        agent = jax.tree_util.tree_unflatten(structure, found)
        if not self.whole and hasattr(self.algorithm, "adopted"):
            agent = self.algorithm.adopted(agent)
        return state._replace(agent=agent)

    @property
    def name(self) -> str:
        """How messages call the algorithm."""
        return type(self.algorithm).__name__

    def both(self, name: str) -> str:
        """An array's dtype and shape here and there."""
        key = self.key(name)
        there = "not there" if key is None else f"{_kind(self.source.arrays[key])} there"
        return f"{name} is {_kind(self.shapes[name])} here, {there}"

    @property
    def told(self) -> str:
        """One line: what was taken and what was not."""
        runs = next(iter(self.shapes.values())).shape[0]
        first = self.source.agents > 1 and self.source.agents != runs
        source = self.source.name + f" (the first of its {self.source.agents} agents)" * first
        if self.whole:
            return f"start: the whole state of {source}"
        left = subtrees([name for name in self.shapes if name not in self.taken], self.shapes)
        others = [name for name in self.wanted if self.key(name) is not None and not self.fits(name)]
        why = f" ({_some(map(self.both, others), 1)})" if others else ""
        return f"start: {', '.join(self.paths)} from {source}; not taken: {', '.join(left)}{why}"

    @property
    def paths(self) -> list[str]:
        """What is taken, as few paths of subtrees as there can be."""
        return subtrees(self.taken, self.shapes)

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` keeps."""
        return {**self.source.record, "taken": ["all"] if self.whole else self.paths}


def start_from(start: Any, parts: Any, algorithm: Any, spec: Spec, seeds: int, runs: int) -> Start | None:
    """The `Start` that `td.train` is asked for, of so many runs in all; None where agents are fresh."""
    if start is None:
        require(not parts, "parts say what is taken of start=...: give that too")
        return None
    fresh = settled(expand(algorithm, seeds), 0, spec.steps, 0)
    agents = jax.eval_shape(lambda: stacked_init(fresh, spec, runs))
    return Start(source_of(start), algorithm, agents, (parts,) if isinstance(parts, str) else parts)


def _inside(name: str, part: str) -> bool:
    """Whether the path `name` runs through `part`, which is one or more of its words."""
    return f".{dotted(part)}." in f".{name}."


def _kind(x: Any) -> str:
    """Dtype and shape of one run's array."""
    return f"{x.dtype}{list(x.shape[1:])}"


def _some(texts: Iterable[str], most: int = SOME) -> str:
    texts = list(texts)
    return ", ".join(texts[:most]) + (f", and {len(texts) - most} more" if len(texts) > most else "")


def subtrees(names: Iterable[str], among: Iterable[str] | None = None) -> list[str]:
    """The fewest paths below which are these names, and no others of those `among` which they are."""
    names, among = list(names), list(names if among is None else among)
    others = [name for name in among if name not in set(names)]
    found: dict[str, None] = {}
    for name in names:
        words = name.split(".")
        heads = (".".join(words[:n]) for n in range(1, len(words) + 1))
        found[next(head for head in heads if not any(f"{o}.".startswith(f"{head}.") for o in others))] = None
    return list(found)


def _freezes(config: Any) -> bool:
    """Whether a network in the algorithm is frozen."""
    inner = (getattr(config, field.name) for field in dataclasses.fields(config))
    return getattr(config, "frozen", False) is True or any(_freezes(x) for x in inner if is_config(x))


def _is_optimiser(node: Any) -> bool:
    return type(node).__module__.partition(".")[0] == "optax"


def _below(tree: PyTree, chosen: Any) -> set[str]:
    """The paths of all leaves below the nodes that are chosen."""
    nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=chosen)
    return {
        dotted(jax.tree_util.keystr((*path, *inner)))
        for path, node in nodes
        if chosen(node)
        for inner, _ in jax.tree_util.tree_leaves_with_path(node)
    }
