"""A policy's graph as a module of Python that needs NumPy and nothing else, with its weights beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import IncompatibleError
from thorndike.files import replace
from thorndike.serve.graph import Dim, Node
from thorndike.serve.policy import Policy

INFIX = {
    "Add": "+", "Sub": "-", "Mul": "*", "Pow": "**", "Equal": "==", "Less": "<", "LessOrEqual": "<=",
    "Greater": ">", "GreaterOrEqual": ">=", "And": "&", "Or": "|", "Xor": "^", "BitwiseAnd": "&", "BitwiseOr": "|",
    "BitwiseXor": "^", "MatMul": "@",
}  # fmt: skip
CALLS = {
    "Max": "np.maximum", "Min": "np.minimum", "Exp": "np.exp", "Log": "np.log", "Tanh": "np.tanh", "Sqrt": "np.sqrt",
    "Neg": "np.negative", "Abs": "np.abs", "Sign": "np.sign", "Floor": "np.floor", "Ceil": "np.ceil", "Sin": "np.sin",
    "Cos": "np.cos", "Tan": "np.tan", "Not": "~", "BitwiseNot": "~", "Round": "np.rint", "Where": "np.where",
    "Div": "divide", "IsNaN": "np.isnan", "IsInf": "np.isinf", "Mod": "np.fmod", "Reciprocal": "1 / ", "Identity": "",
}  # fmt: skip
REDUCE = {"ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod"}

HEAD = '''"""A trained policy, {about}. It needs NumPy and {weights} beside it.

`act({arguments})` takes a batch and gives {results}.
"""

from pathlib import Path

import numpy as np

ABOUT = {metadata!r}
with np.load(Path(__file__).with_name({weights!r}), allow_pickle=False) as file:
    W = {{name: file[name] for name in file.files}}


def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow."""
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))


def divide(x, y):
    """x / y; of whole numbers it is cut towards zero, and -1 where y is 0."""
    if not np.issubdtype(np.result_type(x, y), np.integer):
        return x / y
    whole = x // np.where(y == 0, 1, y).astype(y.dtype)
    cut = whole + ((whole * y != x) & ((x < 0) != (y < 0)))
    return np.where(y == 0, -1, cut).astype(whole.dtype)


def act({arguments}):
    """The greedy action for each observation of a batch, as the environment takes it."""
'''


def write(policy: Policy, path: Path, about: dict[str, Any]) -> None:
    """Write `path` (.py) and its weights (.npz); raises `IncompatibleError` for what NumPy has no function for."""
    constants = policy.graph.constants
    read = {name for node in policy.graph.nodes for name in node.inputs}
    large = {name: x for name, x in constants.items() if name in read and x.size > 1}
    weights = path.with_suffix(".npz")
    names = {port.name: port.name.replace(".", "_").replace(" ", "_") for port in policy.inputs}
    words = {**{name: f'W["{name}"]' for name in large}, **names}
    words |= {name: _literal(x) for name, x in constants.items() if x.size == 1}
    lines = [f"    {names[p.name]} = np.asarray({names[p.name]}, np.{_dtype(p.dtype)})" for p in policy.inputs]
    lines.append(f"    n = len({names[policy.inputs[0].name]})")
    lines += [f"    {node.output} = {_spelled(node, words, constants)}" for node in policy.graph.nodes]
    results = [port.tensor for port in policy.outputs]
    lines.append(f"    return {', '.join(results)}")
    text = HEAD.format(
        about=f"{about['algorithm']['type']} on {about['spec']['id']}".replace('"""', ""),
        weights=weights.name,
        arguments=", ".join(names.values()),
        results=", ".join(port.name for port in policy.outputs),
        metadata=json.dumps(about),
    )
    with weights.open("wb") as file:
        np.savez(file, **{name: np.asarray(x) for name, x in large.items()})  # type: ignore[arg-type]
    replace(path, [(text + "\n".join(lines) + "\n").encode()])


def _literal(x: np.ndarray) -> str:
    value = x.ravel()[0]
    number = repr(value.item()) if np.isfinite(value) else f'float("{value}")'
    return (
        f"np.full({x.shape}, {number}, np.{_dtype(x.dtype.name)})" if x.ndim else f"np.{_dtype(x.dtype.name)}({number})"
    )


def _dtype(name: str) -> str:
    return "bool_" if name == "bool" else name


def _spelled(node: Node, words: dict[str, str], constants: dict[str, np.ndarray]) -> str:
    """A node as an expression."""
    op, more = node.op, node.attributes
    given = [words.get(name, name) for name in node.inputs]
    fixed: list[Any] = [constants.get(name) for name in node.inputs]
    if op in INFIX:
        return f" {INFIX[op]} ".join(given)
    if op in CALLS:
        return f"{CALLS[op]}({', '.join(given)})"
    if op in REDUCE:
        return f"{given[0]}.{REDUCE[op]}({tuple(np.ravel(fixed[1]).tolist())})"
    if op in ("Reshape", "Expand"):
        assert node.shape is not None
        sizes = [f"{s.times} * n + {s.plus}" if isinstance(s, Dim) else str(s) for s in node.shape]
        shape = f"({''.join(f'{size}, ' for size in sizes)})"
        return f"np.reshape({given[0]}, {shape})" if op == "Reshape" else f"np.broadcast_to({given[0]}, {shape})"
    if op == "Cast":
        return f"{given[0]}.astype(np.{_dtype(more['to'])})"
    if op == "Sigmoid":
        return f"sigmoid({given[0]})"
    if op == "Transpose":
        return f"np.transpose({given[0]}, {more['perm']})"
    if op == "Concat":
        return f"np.concatenate([{', '.join(given)}], {more['axis']})"
    if op == "ArgMax":
        return f"np.argmax({given[0]}, {more['axis']})"
    if op == "Gather":
        return f"np.take({given[0]}, {given[1]}, {more['axis']})"
    if op == "Einsum":
        return f"np.einsum({more['equation']!r}, {', '.join(given)})"
    if op == "Slice" and all(x is not None for x in fixed[1:]):
        begin, end, axes, steps = (np.ravel(x).tolist() for x in fixed[1:])  # type: ignore[arg-type]
        cuts = dict(zip(axes, zip(begin, end, steps)))
        texts = [_cut(cuts.get(axis)) for axis in range(max(axes) + 1)]
        return f"{given[0]}[{', '.join(texts)}]"
    if op == "Pad" and fixed[1] is not None:
        low, high = np.split(np.ravel(fixed[1]), 2)
        return f"np.pad({given[0]}, {list(zip(low.tolist(), high.tolist()))}, constant_values={given[2]})"
    raise IncompatibleError(f"a NumPy module has no {op}: export to .onnx")


def _cut(part: Any) -> str:
    if part is None:
        return ":"
    begin, end, step = part
    last = "" if abs(end) >= 2**31 else str(end)
    return f"{begin}:{last}:{step}" if step != 1 else f"{begin}:{last}"
