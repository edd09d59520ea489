"""JAX's primitives as ONNX operators: those that acting uses. Shapes may have a batch of any size."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thorndike.errors import IncompatibleError
from thorndike.serve.graph import Graph, Tensor, symbolic

SAME = {  # elementwise, by the same rule for all types
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow",
    "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual", "exp": "Exp",
    "log": "Log", "tanh": "Tanh", "sqrt": "Sqrt", "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor",
    "ceil": "Ceil", "logistic": "Sigmoid", "erf": "Erf", "sin": "Sin", "cos": "Cos", "tan": "Tan",
}  # fmt: skip
REDUCE = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd"}
LOGICAL = {"and": ("And", "BitwiseAnd"), "or": ("Or", "BitwiseOr"), "xor": ("Xor", "BitwiseXor")}

Emit = Callable[[Graph, Any, list[Any]], Any]


def translate(graph: Graph, eqn: Any, given: list[Any]) -> list[Any]:
    """The outputs of an equation, as tensors; raises `IncompatibleError` for a primitive that is not known here."""
    name = eqn.primitive.name
    if name in SAME:
        return [graph.add(SAME[name], *given)]
    if name in REDUCE:
        return [graph.add(REDUCE[name], given[0], np.asarray(eqn.params["axes"], np.int64), keepdims=0)]
    if name in LOGICAL:
        return [graph.add(LOGICAL[name][eqn.invars[0].aval.dtype != bool], *given)]
    emit = globals().get(f"_{name}")
    if emit is None:
        raise IncompatibleError(f"its operation {name!r} has no translation")
    found = emit(graph, eqn, given)
    return found if isinstance(found, list) else [found]


def reshaped(graph: Graph, x: Any, shape: Sequence[Any]) -> Any:
    """A reshape, of a constant at once."""
    if not isinstance(x, Tensor) and not symbolic(shape):
        return np.reshape(np.asarray(x), shape)
    return graph.add("Reshape", x, shape=shape)


def at_index(graph: Graph, x: Any, index: int) -> Any:
    """x[index] along the first axis."""
    return graph.add("Gather", x, np.int64(index), axis=0) if isinstance(x, Tensor) else x[index]


def stacked(graph: Graph, parts: list[Any], axis: int, shape: Sequence[Any]) -> Any:
    """Parts of this shape along a new axis."""
    longer = (*shape[:axis], 1, *shape[axis:])
    rows = [reshaped(graph, part, longer) for part in parts]
    return rows[0] if len(rows) == 1 else graph.add("Concat", *rows, axis=axis)


def _ne(graph, eqn, given):
    return graph.add("Not", graph.add("Equal", *given))


def _not(graph, eqn, given):
    return graph.add("Not" if eqn.invars[0].aval.dtype == bool else "BitwiseNot", *given)


def _rsqrt(graph, eqn, given):
    return graph.add("Reciprocal", graph.add("Sqrt", *given))


def _square(graph, eqn, given):
    return graph.add("Mul", given[0], given[0])


def _integer_pow(graph, eqn, given):
    y = eqn.params["y"]
    return graph.add("Mul", given[0], given[0]) if y == 2 else graph.add("Pow", given[0], _one(eqn) * y)


def _log1p(graph, eqn, given):
    return graph.add("Log", graph.add("Add", given[0], _one(eqn)))


def _expm1(graph, eqn, given):
    return graph.add("Sub", graph.add("Exp", given[0]), _one(eqn))


def _exp2(graph, eqn, given):
    return graph.add("Pow", _one(eqn) * 2, given[0])


def _one(eqn):
    return eqn.outvars[0].aval.dtype.type(1)


def _is_finite(graph, eqn, given):
    return graph.add("Not", graph.add("Or", graph.add("IsNaN", given[0]), graph.add("IsInf", given[0])))


def _round(graph, eqn, given):
    if int(eqn.params["rounding_method"]) != 1:
        raise IncompatibleError("it rounds halves away from zero")
    return graph.add("Round", *given)


def _rem(graph, eqn, given):
    return graph.add("Mod", *given, fmod=1)


def _convert_element_type(graph, eqn, given):
    return graph.add("Cast", given[0], to=np.dtype(eqn.params["new_dtype"]).name)


def _select_n(graph, eqn, given):
    which, *cases = given
    if eqn.invars[0].aval.dtype == bool:
        return graph.add("Where", which, cases[1], cases[0])
    found = cases[-1]
    for i in reversed(range(len(cases) - 1)):
        found = graph.add("Where", graph.add("Equal", which, np.int32(i)), cases[i], found)
    return found


def _clamp(graph, eqn, given):
    low, x, high = given
    return graph.add("Min", graph.add("Max", x, low), high)


def _broadcast_in_dim(graph, eqn, given):
    shape, at = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    aval = eqn.invars[0].aval
    placed = [1] * len(shape)
    for axis, size in zip(at, aval.shape):
        placed[axis] = size
    x = given[0] if tuple(placed) == tuple(aval.shape) else reshaped(graph, given[0], placed)
    return x if tuple(placed) == tuple(shape) else graph.add("Expand", x, shape=shape)


def _reshape(graph, eqn, given):
    return reshaped(graph, given[0], eqn.params["new_sizes"])


def _squeeze(graph, eqn, given):
    return reshaped(graph, given[0], eqn.outvars[0].aval.shape)


_expand_dims = _squeeze


def _transpose(graph, eqn, given):
    return graph.add("Transpose", given[0], perm=list(eqn.params["permutation"]))


def _concatenate(graph, eqn, given):
    return given[0] if len(given) == 1 else graph.add("Concat", *given, axis=int(eqn.params["dimension"]))


def _stack(graph, eqn, given):
    return stacked(graph, given, int(eqn.params["axis"]), eqn.invars[0].aval.shape)


def _slice(graph, eqn, given):
    shape, params = eqn.invars[0].aval.shape, eqn.params
    strides = params["strides"] or (1,) * len(shape)
    rows = zip(range(len(shape)), params["start_indices"], params["limit_indices"], strides, shape)
    cut = [row for row in rows if not (row[1] == 0 and row[2] == row[4] and row[3] == 1)]
    if symbolic([row[2] for row in cut]):
        raise IncompatibleError("it takes a part of the batch")
    axes, starts, limits, steps = (np.array([row[i] for row in cut], np.int64) for i in range(4))
    return graph.add("Slice", given[0], starts, limits, axes, steps) if cut else given[0]


def _dynamic_slice(graph, eqn, given):
    x, *starts = given
    if any(isinstance(start, Tensor) for start in starts):
        raise IncompatibleError("it takes a slice whose place depends on what it sees")
    sizes, shape = eqn.params["slice_sizes"], eqn.invars[0].aval.shape
    cut = [(i, s, n, m) for i, (s, n, m) in enumerate(zip(starts, sizes, shape)) if n != m]
    if not cut:
        return x
    begin = np.array([np.clip(int(s), 0, m - n) for _, s, n, m in cut], np.int64)
    end = begin + np.array([n for _, _, n, _ in cut], np.int64)
    return graph.add("Slice", x, begin, end, np.array([c[0] for c in cut], np.int64), np.ones(len(cut), np.int64))


def _split(graph, eqn, given):
    axis, begin, found = np.array([eqn.params["axis"]], np.int64), 0, []
    for size in eqn.params["sizes"]:
        ends = np.array([begin], np.int64), np.array([begin + size], np.int64)
        found.append(graph.add("Slice", given[0], *ends, axis, np.array([1], np.int64)))
        begin += size
    return found


def _rev(graph, eqn, given):
    axes = np.asarray(eqn.params["dimensions"], np.int64)
    n = len(axes)
    ends = np.full(n, -1, np.int64), np.full(n, np.iinfo(np.int64).min, np.int64)
    return graph.add("Slice", given[0], *ends, axes, np.full(n, -1, np.int64))


def _pad(graph, eqn, given):
    low, high, inner = zip(*eqn.params["padding_config"])
    if any(inner) or min(*low, *high) < 0:
        raise IncompatibleError("it pads between elements, or cuts")
    return graph.add("Pad", given[0], np.array([*low, *high], np.int64), given[1])


def _argmax(graph, eqn, given):
    (axis,) = eqn.params["axes"]
    found = graph.add("ArgMax", given[0], axis=int(axis), keepdims=0)
    return graph.add("Cast", found, to=np.dtype(eqn.params["index_dtype"]).name)


def _reduce_or(graph, eqn, given):
    whole = graph.add("Cast", given[0], to="int32")
    found = graph.add("ReduceMax", whole, np.asarray(eqn.params["axes"], np.int64), keepdims=0)
    return graph.add("Cast", found, to="bool")


def _reduce_and(graph, eqn, given):
    whole = graph.add("Cast", given[0], to="int32")
    found = graph.add("ReduceMin", whole, np.asarray(eqn.params["axes"], np.int64), keepdims=0)
    return graph.add("Cast", found, to="bool")


def _cumsum(graph, eqn, given):
    return graph.add("CumSum", given[0], np.int64(eqn.params["axis"]), reverse=int(eqn.params["reverse"]))


def _iota(graph, eqn, given):
    shape, along = eqn.params["shape"], eqn.params["dimension"]
    if symbolic([shape[along]]):
        raise IncompatibleError("it counts along the batch")
    counted = np.arange(shape[along], dtype=eqn.params["dtype"])
    return graph.add("Expand", counted.reshape([-1 if i == along else 1 for i in range(len(shape))]), shape=shape)


def _gather(graph, eqn, given):
    x, index = given
    dims, shape = eqn.params["dimension_numbers"], eqn.invars[0].aval.shape
    axes, sizes = dims.collapsed_slice_dims, eqn.params["slice_sizes"]
    if not axes and not isinstance(index, Tensor) and np.size(index) == 1:  # one slice, at a place that is known
        (axis,), begin = dims.start_index_map, int(np.ravel(index)[0])
        ends = np.array([begin], np.int64), np.array([begin + sizes[axis]], np.int64)
        return graph.add("Slice", x, *ends, np.array([axis], np.int64), np.array([1], np.int64))
    one = len(axes) == 1 and tuple(dims.start_index_map) == tuple(axes) and not dims.operand_batching_dims
    whole = one and all(n == m for i, (n, m) in enumerate(zip(sizes, shape)) if i != axes[0])
    index_shape = eqn.invars[1].aval.shape[:-1]
    before = axes[0] if one else 0
    expected = [*range(before), *range(before + len(index_shape), len(shape) - 1 + len(index_shape))]
    if not whole or list(dims.offset_dims) != expected:
        raise IncompatibleError("it looks up entries in a way that has no translation")
    rows = reshaped(graph, index, index_shape)
    return graph.add("Gather", x, rows, axis=int(axes[0]))


def _dot_general(graph, eqn, given):
    ((left, right), (left_batch, right_batch)) = eqn.params["dimension_numbers"]
    x, y = (var.aval for var in eqn.invars)
    if not left_batch and tuple(left) == (x.ndim - 1,) and y.ndim == 2:
        turned = given[1] if tuple(right) == (0,) else _turned(graph, given[1])
        return graph.add("MatMul", given[0], turned)
    letters = iter(string.ascii_lowercase)
    xs: list[str] = [next(letters) for _ in range(x.ndim)]
    ys: list[str] = [""] * y.ndim
    for i, j in [*zip(left, right), *zip(left_batch, right_batch)]:
        ys[j] = xs[i]
    ys = [letter or next(letters) for letter in ys]
    gone = {xs[i] for i in (*left, *left_batch)}
    out = [xs[i] for i in left_batch] + [c for c in xs if c not in gone] + [c for c in ys if c not in gone]
    return graph.add("Einsum", *given, equation=f"{''.join(xs)},{''.join(ys)}->{''.join(out)}")


def _turned(graph, x):
    return graph.add("Transpose", x, perm=[1, 0]) if isinstance(x, Tensor) else np.asarray(x).T


def _conv_general_dilated(graph, eqn, given):
    params = eqn.params
    spec = params["dimension_numbers"]
    if any(n != 1 for n in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise IncompatibleError("it has a transposed convolution")
    image = graph.add("Transpose", given[0], perm=list(spec.lhs_spec))
    kernel = given[1]
    if isinstance(kernel, Tensor):
        kernel = graph.add("Transpose", kernel, perm=list(spec.rhs_spec))
    else:
        kernel = np.transpose(np.asarray(kernel), spec.rhs_spec)
    low, high = zip(*params["padding"])
    found = graph.add(
        "Conv", image, kernel, strides=list(params["window_strides"]), pads=[*map(int, low), *map(int, high)],
        dilations=list(params["rhs_dilation"]), group=int(params["feature_group_count"]),
    )  # fmt: skip
    back = [0] * len(spec.out_spec)
    for i, place in enumerate(spec.out_spec):
        back[place] = i
    return graph.add("Transpose", found, perm=back)
