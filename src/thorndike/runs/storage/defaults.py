"""Default settings and presets as plain data, read from the source: nobody needs JAX to know them.

Only what is written out is understood: numbers, text, tuples, dictionaries and configs of these. A field whose default
is computed in another way is left out, and a table of presets that is computed is taken for an empty one.
"""

from __future__ import annotations

import ast
import contextlib
import operator
from functools import cache
from importlib.resources import files
from typing import Any

from thorndike.exports import homes
from thorndike.presets import entry_for
from thorndike.runs.storage.settings import changes, flat

OPERATORS: dict[type, Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg,
}  # fmt: skip


def nearest_base(name: str, settings: dict[str, Any], environment: str) -> tuple[str, dict[str, Any]]:
    """What the flat settings of the algorithm class called `name` are based on, and the fields that differ from that.

    The base is "preset" where there is one for the environment's id that is nearer than the "defaults". For a class of
    one's own, or one that this version does not know, it is "" and nothing is said to differ.
    """
    default = defaults(name)
    if default is None:
        return "", {}
    bases = {"defaults": default}
    preset = {field: value for field, value in entry_for(presets(name), environment).items() if field != "steps"}
    if preset:
        bases["preset"] = {**default, **preset}
    found = {base: changes(settings, flat(value)) for base, value in bases.items()}
    nearest = min(found, key=lambda base: len(found[base]))
    return nearest, found[nearest]


@cache
def defaults(name: str) -> dict[str, Any] | None:
    """`to_json` of the package's config class of that name as it is by default; None where there is no such class."""
    cls = _class(name)
    if cls is None:
        return None
    found: dict[str, Any] = {}
    for base in cls.bases:
        found |= (defaults(base.id) or {}) if isinstance(base, ast.Name) else {}
    for line in cls.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None:
            with contextlib.suppress(ValueError):
                found[line.target.id] = _evaluate(line.value, {})
    return {**found, "type": name}


@cache
def presets(name: str) -> dict[str, dict[str, Any]]:
    """What the method `presets` of the algorithm class of that name returns, with configs as `to_json` has them."""
    cls = _class(name)
    for line in cls.body if cls is not None else ():
        if isinstance(line, ast.FunctionDef) and line.name == "presets":
            with contextlib.suppress(ValueError):
                return _returned(line)
            return {}
    bases = [base.id for base in cls.bases if isinstance(base, ast.Name)] if cls is not None else []
    return next(filter(None, map(presets, bases)), {})


def _returned(function: ast.FunctionDef) -> Any:
    """What a function returns that only gives names to values before."""
    local: dict[str, Any] = {}
    for line in function.body:
        if isinstance(line, ast.Return) and line.value is not None:
            return _evaluate(line.value, local)
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            local[line.targets[0].id] = _evaluate(line.value, local)
        elif isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None:
            local[line.target.id] = _evaluate(line.value, local)
    raise ValueError("it returns nothing")


def _class(name: str) -> ast.ClassDef | None:
    """The source of the package's public class of that name, parsed."""
    if name not in homes():
        return None
    body = _module(homes()[name].replace(".", "/") + ".py").body
    return next((line for line in body if isinstance(line, ast.ClassDef) and line.name == name), None)


def _fields(name: str) -> list[str]:
    """The fields of a config class, in their order."""
    cls = _class(name)
    lines = cls.body if cls is not None else []
    return [line.target.id for line in lines if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)]


@cache
def _module(path: str) -> ast.Module:
    return ast.parse(files("thorndike").joinpath(path).read_text("utf-8"))


def _evaluate(node: ast.AST, local: dict[str, Any]) -> Any:
    """The value of an expression; raises `ValueError` for what is not written out."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in local:
        return local[node.id]
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_evaluate(item, local) for item in node.elts]
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_evaluate(node.operand, local))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_evaluate(node.left, local), _evaluate(node.right, local))
    if isinstance(node, ast.Dict):
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values):
            found |= _evaluate(value, local) if key is None else {_evaluate(key, local): _evaluate(value, local)}
        return found
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        default = defaults(node.func.id)
        if default is not None:
            given = [*zip(_fields(node.func.id), node.args), *((str(word.arg), word.value) for word in node.keywords)]
            return {**default, **{name: _evaluate(value, local) for name, value in given}}
    raise ValueError(f"{ast.dump(node)[:80]} is not written out")
