"""What JAX traced, as a graph of ONNX operators that needs no JAX.

Translation is lazy: only what the outputs need is looked at, so critics and unused random numbers are never met. What
depends on no input is computed at once. Calls, known branches and loops of a fixed length are written out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from thorndike.errors import IncompatibleError

LONGEST = 64  # steps of a loop that is written out


@dataclasses.dataclass(frozen=True)
class Dim:
    """A length that depends on the batch's: times * batch + plus."""

    times: int
    plus: int


Length = int | Dim


@dataclasses.dataclass(frozen=True)
class Node:
    """One operator of ONNX, opset 20; of Reshape and Expand `shape` is what ONNX has as a second input."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    shape: tuple[Length, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value that depends on inputs, by its name in the graph."""

    name: str


@dataclasses.dataclass
class Graph:
    """Nodes in an order in which they can be computed, and the constants they read."""

    nodes: list[Node] = dataclasses.field(default_factory=list)
    constants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    used: set[str] = dataclasses.field(default_factory=set)  # inputs that something reads

    def add(self, op: str, *inputs: Any, shape: Sequence[Any] | None = None, **attributes: Any) -> Tensor:
        """The output of a new node; inputs are tensors, or constants."""
        output = f"t{len(self.nodes)}"
        sizes = None if shape is None else tuple(map(length, shape))
        self.nodes.append(Node(op, tuple(map(self.name, inputs)), output, attributes, sizes))
        return Tensor(output)

    def name(self, value: Any) -> str:
        """What a tensor or a constant is called."""
        if isinstance(value, Tensor):
            return value.name
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name


def length(size: Any) -> Length:
    """A length as JAX traced it."""
    if isinstance(size, (int, np.integer)):
        return int(size)
    if isinstance(size, Dim):
        return size
    one, two = (int(size._evaluate({"b": n})) for n in (1, 2))
    return Dim(two - one, 2 * one - two)


def symbolic(shape: Sequence[Any]) -> bool:
    """Whether a length in it depends on the batch's."""
    return not all(isinstance(size, (int, np.integer)) for size in shape)


class Scope:
    """One jaxpr, whose values are translated when they are asked for."""

    def __init__(self, graph: Graph, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Callable[[], Any]]):
        self.graph, self.jaxpr = graph, jaxpr
        self.values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts))
        self.arguments = dict(zip(jaxpr.invars, arguments))
        self.makers = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
        self.inner: dict[int, Any] = {}  # scopes of calls, by their equation

    def outputs(self) -> list[Callable[[], Any]]:
        """What reads each of its outputs."""
        return [lambda var=var: self.read(var) for var in self.jaxpr.outvars]  # type: ignore[misc]

    def read(self, var: Any) -> Any:
        """A tensor of the graph, or a constant."""
        if isinstance(var, Literal):
            return np.asarray(var.val, var.aval.dtype)  # type: ignore[attr-defined]
        if var not in self.values:
            if var in self.arguments:
                self.values[var] = self.arguments[var]()
            else:
                self._make(var, self.makers[var])
        return self.values[var]

    def _make(self, var: Any, eqn: Any) -> None:
        name = eqn.primitive.name
        if name in ("optimization_barrier", "copy", "copy_p", "stop_gradient", "device_put"):
            self.values[var] = self.read(eqn.invars[eqn.outvars.index(var)])
        elif name == "platform_index":
            self.values[var] = np.int32(len(eqn.params["platforms"]) - 1)  # the default, which is the last
        elif (outputs := self._called(eqn)) is not None:
            self.values[var] = outputs[eqn.outvars.index(var)]()
        else:
            given = [self.read(x) for x in eqn.invars]
            known = not any(isinstance(x, Tensor) for x in given)
            if known and not any(symbolic(out.aval.shape) for out in eqn.outvars):
                found = eqn.primitive.bind(*map(jax.numpy.asarray, given), **eqn.params)
                found = found if eqn.primitive.multiple_results else [found]
            else:
                from thorndike.serve.operators import translate

                found = translate(self.graph, eqn, given)
            self.values.update(zip(eqn.outvars, found))

    def _called(self, eqn: Any) -> list[Callable[[], Any]] | None:
        """What reads the outputs of an equation that holds other jaxprs; None for any other."""
        if id(eqn) not in self.inner:
            reads: list[Callable[[], Any]] = [lambda var=var: self.read(var) for var in eqn.invars]  # type: ignore[misc]
            name = eqn.primitive.name
            if name == "scan":
                self.inner[id(eqn)] = self._scan(eqn.params, reads)
            elif name == "cond":
                self.inner[id(eqn)] = self._cond(eqn.params["branches"], reads)
            elif name == "while":
                raise IncompatibleError("it has a loop whose length is not known beforehand")
            else:
                bodies = [x for x in eqn.params.values() if hasattr(x, "eqns") and len(x.in_avals) == len(reads)] or [
                    x for key, x in eqn.params.items() if key in ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")
                ]
                self.inner[id(eqn)] = self._open(bodies[0], reads) if bodies else None
        return self.inner[id(eqn)]

    def _open(self, body: Any, reads: Sequence[Callable[[], Any]]) -> list[Callable[[], Any]]:
        inner, consts = (body.jaxpr, body.consts) if hasattr(body, "jaxpr") else (body, ())
        return Scope(self.graph, inner, consts, reads).outputs()

    def _cond(self, branches: Sequence[Any], reads: list[Callable[[], Any]]) -> list[Callable[[], Any]]:
        which = reads[0]()
        if not isinstance(which, Tensor):
            at = int(np.clip(int(which), 0, len(branches) - 1))
            return self._open(branches[at], reads[1:])
        opened = [self._open(branch, reads[1:]) for branch in branches]

        def choose(i: int) -> Any:
            found = opened[-1][i]()
            for at in reversed(range(len(branches) - 1)):
                here = self.graph.add("LessOrEqual", which, np.int32(at))
                found = self.graph.add("Where", here, opened[at][i](), found)
            return found

        return [lambda i=i: choose(i) for i in range(len(opened[0]))]  # type: ignore[misc]

    def _scan(self, params: dict[str, Any], reads: list[Callable[[], Any]]) -> list[Callable[[], Any]]:
        from thorndike.serve.operators import at_index, stacked

        steps, consts, carried = params["length"], params["num_consts"], params["num_carry"]
        if not isinstance(steps, int) or steps > LONGEST:
            raise IncompatibleError(f"it has a loop of {steps} steps, and no more than {LONGEST} are written out")
        order = range(steps)[::-1] if params["reverse"] else range(steps)
        carry = reads[consts : consts + carried]
        each: dict[int, list[Callable[[], Any]]] = {}
        for t in order:
            rows = [lambda x=x, t=t: at_index(self.graph, x(), t) for x in reads[consts + carried :]]  # type: ignore[misc]
            found = self._open(params["jaxpr"], [*reads[:consts], *carry, *rows])
            carry, each[t] = found[:carried], found[carried:]
        n = len(params["jaxpr"].out_avals) - carried
        shapes = [aval.shape for aval in params["jaxpr"].out_avals[carried:]]
        ys = [
            lambda i=i: stacked(self.graph, [each[t][i]() for t in range(steps)], 0, shapes[i])  # type: ignore[misc]
            for i in range(n)
        ]
        return [*carry, *ys]
