"""Configurations are values: frozen dataclasses whose `float` fields JAX sees as array leaves.

`@config` turns a class of annotated defaults into such a value. Fields annotated `float` (or another config)
are pytree children: changing one never recompiles, and many values stack along an axis. Every other field is
static: part of the compilation key, free to be branched on in Python. Nothing is validated in the constructor,
because JAX also calls it with tracers; `check()` is called where a run starts.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

from thorndike.errors import ConfigError
from thorndike.names import did_you_mean

T = TypeVar("T")
Inner = typing.Annotated[Any, "config"]  # a field that holds some config, whichever
Static = typing.Annotated[float, "static"]  # a float that programs are compiled for: no leaf, and not to be swept


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, keyword-only dataclass and a pytree whose leaves are its `float` fields."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    leaves = [name for name in names if _is_child(hints[name])]
    _register(cls, leaves, [n for n in names if n not in leaves])
    cls.__thorndike_hints__ = hints  # type: ignore[attr-defined]
    return cls


def _register(cls: type, leaves: list[str], rest: list[str]) -> None:
    """`jax.tree_util.register_dataclass`, but for trees of different classes, which that lets be equal: where two have
    equal fields, a compiled function would now and then be called for the other."""

    def flatten(value: Any) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(value, name) for name in leaves], tuple(getattr(value, name) for name in rest)

    def flatten_with_keys(value: Any) -> tuple[list[Any], tuple[Any, ...]]:
        children, static = flatten(value)
        return [(jax.tree_util.GetAttrKey(name), child) for name, child in zip(leaves, children)], static

    def unflatten(static: tuple[Any, ...], children: Any) -> Any:
        value: Any = object.__new__(cls)
        for name, item in [*zip(leaves, children), *zip(rest, static)]:
            object.__setattr__(value, name, item)
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


def _is_child(hint: Any) -> bool:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return any(_is_child(option) for option in typing.get_args(hint))
    return hint is float or hint == Inner or is_config(hint)


def is_config(value: Any) -> bool:
    """Whether `value` is a config, or a config class."""
    return hasattr(value, "__thorndike_hints__")


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError(message)` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def check(value: Any, where: str = "") -> None:
    """Check types and every nested `check()` of a config; raises `ConfigError` naming the field."""
    name = where or type(value).__name__
    for field in dataclasses.fields(value):
        item, hint = getattr(value, field.name), value.__thorndike_hints__[field.name]
        if not _fits(item, hint):
            raise ConfigError(f"{name}.{field.name} should be {_spell(hint)}, got {item!r}")
        if is_config(item):
            check(item, f"{name}.{field.name}")
    if hasattr(value, "check"):
        value.check()


def _fits(item: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if isinstance(hint, types.UnionType) or origin is typing.Union:
        return any(_fits(item, option) for option in typing.get_args(hint))
    if origin is typing.Literal:
        return any(type(item) is type(option) and item == option for option in typing.get_args(hint))
    if origin is tuple:
        kinds = typing.get_args(hint)
        if not isinstance(item, tuple) or (kinds[-1] is not Ellipsis and len(kinds) != len(item)):
            return False
        return all(_fits(x, kind) for x, kind in zip(item, kinds[:1] * len(item) if kinds[-1] is Ellipsis else kinds))
    if hint == Inner:
        return is_config(item)
    if hint is float:
        if isinstance(item, (bool, str, list, tuple)):  # JAX would see a list as several leaves
            return False
        array = np.asarray(item)
        return array.dtype.kind in "fiu" and array.ndim <= 1 and array.size > 0 and bool(np.isfinite(array).all())
    if hint == Static:
        return isinstance(item, (int, float)) and not isinstance(item, bool) and bool(np.isfinite(item))
    if hint is int:
        return isinstance(item, (int, np.integer)) and not isinstance(item, bool)
    if hint is type(None):
        return item is None
    if is_config(hint):
        return isinstance(item, hint)
    return isinstance(item, hint) if isinstance(hint, type) else True


def _spell(hint: Any) -> str:
    if hint == Inner:
        return "a configuration, such as a JAX environment"
    if hint is float:
        return "a finite float (or a 1-D array of them, for a sweep)"
    if hint == Static:
        return "a finite float (not an array: programs are compiled for it)"
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(_spell(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"tuple[{', '.join('...' if kind is Ellipsis else _spell(kind) for kind in typing.get_args(hint))}]"
    if hint is type(None):
        return "None"
    return getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)  # type: ignore[return-value]


def type_name(cls: type) -> str:
    """What files call a config class. One of your own is never taken for one of ours of the same name."""
    return cls.__name__ if cls.__module__.partition(".")[0] == "thorndike" else f"own {cls.__name__}"


def types_in(value: Any) -> set[type]:
    """The classes of a config and of all configs in it."""
    inner = [getattr(value, f.name) for f in dataclasses.fields(value)]
    return {type(value)}.union(*(types_in(item) for item in inner if is_config(item)))


def to_json(value: Any) -> Any:
    """Plain JSON data for a config: nested dictionaries that carry the class's `type_name` under "type"."""
    if is_config(value):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type_name(type(value)), **fields}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def from_json(data: Any, known: dict[str, type]) -> Any:
    """Rebuild a config from `to_json`'s data. Raises `ConfigError`.

    Its classes are those `known` by `type_name`, and those that the annotations of a known class's fields name.
    """
    if isinstance(data, list):
        return tuple(from_json(item, known) for item in data)
    if not isinstance(data, dict):
        return data
    cls = known.get(str(data.get("type")))
    if cls is None:
        name = str(data.get("type"))
        mine = name.startswith("own ")
        raise ConfigError(
            f"{name.removeprefix('own ')} is a class of your own, which no file can hold: give it to the function of "
            "Python that loads it, classes=[...]; the command line cannot"
            if mine
            else f"unknown configuration type {name!r}{did_you_mean(name, known)}"
        )
    known = {type_name(kind): kind for kind in _named_in(tuple(cls.__thorndike_hints__.values()))} | known  # type: ignore[attr-defined]
    fields = {name: from_json(item, known) for name, item in data.items() if name != "type"}
    for name, item in fields.items():
        if isinstance(item, tuple) and cls.__thorndike_hints__.get(name) in (float, float | None):  # type: ignore[attr-defined]
            fields[name] = np.asarray(item, np.float32)
    unknown = set(fields) - {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    require(not unknown, f"{cls.__name__} has no field {', '.join(sorted(unknown))}: it was saved by another version")
    value = cls(**fields)
    check(value)
    return value


def _named_in(hints: tuple[Any, ...]) -> list[type]:
    """The config classes that annotations name."""
    inner = [kind for hint in hints if not is_config(hint) for kind in _named_in(typing.get_args(hint))]
    return [hint for hint in hints if is_config(hint)] + inner


def swept(value: Any) -> int | None:
    """The common length of the arrays among a config's float fields; None if there is no array.

    Raises `ConfigError` where two lengths differ.
    """
    sizes = {np.shape(leaf)[0] for leaf in jax.tree.leaves(value) if np.ndim(leaf) == 1}
    require(len(sizes) <= 1, f"arrays of hyperparameters must have one length, got lengths {sorted(sizes)}")
    return sizes.pop() if sizes else None
