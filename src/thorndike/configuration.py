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
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar, dataclass_transform, overload

import jax
import numpy as np

from thorndike.documentation import Documented
from thorndike.domains import Interval, Static
from thorndike.errors import ConfigError, require
from thorndike.names import called

T = TypeVar("T")
NUMBERS = dict[str, float]  # a field of numbers by name
Inner = typing.Annotated[Any, "config"]  # a field that holds some config, whichever


@overload
def config(cls: type[T]) -> type[T]: ...


@overload
def config(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: Any = None, *, kw_only: bool = True) -> Any:
    """Make a class a frozen dataclass, by default keyword-only, and a pytree whose leaves are its `float` fields (and
    those of fields `dict[str, float]`)."""
    if cls is None:
        return partial(config, kw_only=kw_only)
    cls = dataclasses.dataclass(frozen=True, kw_only=kw_only)(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    leaves = [name for name in names if _is_child(hints[name])]
    _register(cls, leaves, [n for n in names if n not in leaves])
    cls.__thorndike_hints__ = hints  # type: ignore[attr-defined]
    cls.__doc__ = Documented(cls.__dict__.get("__doc__"))  # type: ignore[assignment]
    _name_fields(cls, names, kw_only)
    return cls


def _name_fields(cls: Any, names: list[str], kw_only: bool) -> None:
    """A field that a class does not have is an error that names the right one, or says that it needs a type."""
    init = cls.__init__

    @wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        unknown = [name for name in kwargs if name not in names]
        if unknown and (why := untyped(cls, unknown[0])):
            raise ConfigError(why)
        if args and kw_only:
            some = f"{names[0]}=..." if names else ""
            raise ConfigError(
                f"{cls.__name__} takes its fields by name, {cls.__name__}({some}); the environment is for td.train"
            )
        if unknown:
            few = f"; it has {', '.join(names) or 'none'}" if len(names) <= 12 else ""
            raise ConfigError(f"{cls.__name__} has no field {unknown[0]!r}{called(unknown[0], names) or few}")
        init(self, *args, **kwargs)

    cls.__init__ = __init__


def untyped(cls: Any, name: str) -> str:
    """What to do where a class of one's own has a number or a text of that name, without a type; "" for all else."""
    value = getattr(cls, name, None)
    plain = isinstance(value, (bool, int, float, str, tuple)) and name not in cls.__thorndike_hints__
    if not plain or not type_name(cls).startswith("own "):
        return ""
    return f"{cls.__name__}.{name} has no type: to make it a field, write {name}: {type(value).__name__} = {value!r}"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def algorithm(*, name: str, summary: str, actions: str, aliases: tuple[str, ...] = ()) -> Callable[[type[T]], type[T]]:
    """`@config` for an algorithm of the package: what is said here is all that registers it.

    Args:
        name: on the command line.
        summary: one line.
        actions: the action spaces that it serves, in words.
        aliases: other names that people use for it.

    The arguments are literals: `thorndike.algorithms.entries` reads them from the source.
    """
    return config


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
    if typing.get_origin(hint) is typing.Annotated and "static" in hint.__metadata__:
        return False
    if typing.get_origin(hint) is tuple:
        return Inner in typing.get_args(hint)
    return hint == Inner or is_config(hint) or bare(hint) in (float, NUMBERS)


def bare(hint: Any) -> Any:
    """A hint without what is annotated to it."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated and hint != Inner else hint


def is_config(value: Any) -> bool:
    """Whether `value` is a config, or a config class."""
    return hasattr(value, "__thorndike_hints__")


def check(value: Any, where: str = "") -> None:
    """Check types and every nested `check()` of a config; raises `ConfigError` naming the field."""
    name = where or type(value).__name__
    for field in dataclasses.fields(value):
        item, hint = getattr(value, field.name), value.__thorndike_hints__[field.name]
        if not _fits(item, hint):
            raise ConfigError(f"{name}.{field.name} should be {_spell(hint)}, got {item!r}")
        for domain in _domains(hint):
            if is_config(item):  # a schedule may end at what a number may not be
                domain, numbers = dataclasses.replace(domain, above=False), item.ends
            else:
                numbers = [] if item is None else [item]
            require(all(map(domain.holds, numbers)), f"{name}.{field.name} must {domain}, got {item}")
        if is_config(item):
            check(item, f"{name}.{field.name}")
    if hasattr(value, "check"):
        value.check()


def _domains(hint: Any) -> list[Any]:
    """The intervals that a hint names."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [domain for option in typing.get_args(hint) for domain in _domains(option)]
    if typing.get_origin(hint) is typing.Annotated:
        return [domain for domain in hint.__metadata__ if isinstance(domain, Interval)]
    return []


def _fits(item: Any, hint: Any) -> bool:
    if hint == Static:
        return isinstance(item, (int, float)) and not isinstance(item, bool) and bool(np.isfinite(item))
    hint = bare(hint)
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
    if hint == NUMBERS:
        return isinstance(item, dict) and all(isinstance(k, str) and _fits(x, float) for k, x in item.items())
    if hint == Inner:
        return is_config(item)
    if hint is float:
        if is_config(item):
            return hasattr(item, "at")  # a schedule
        if isinstance(item, (bool, str, list, tuple)):  # JAX would see a list as several leaves
            return False
        array = np.asarray(item)
        return array.dtype.kind in "fiu" and array.ndim <= 1 and array.size > 0 and bool(np.isfinite(array).all())
    if hint is int:
        return is_whole(item)
    if hint is type(None):
        return item is None
    if is_config(hint):
        return isinstance(item, hint)
    return isinstance(item, hint) if isinstance(hint, type) else True


def is_whole(item: Any) -> bool:
    """Whether `item` is a whole number, Python's or NumPy's."""
    return isinstance(item, (int, np.integer)) and not isinstance(item, bool)


def _spell(hint: Any) -> str:
    if hint == Inner:
        return "a configuration (a value of a @td.config class, such as a JAX environment)"
    if hint == Static:
        return "a finite float (programs are compiled for it: it cannot be swept)"
    if bare(hint) is float:
        return "a finite float (or a 1-D array of them, for a sweep, or a schedule such as td.Linear)"
    if hint == NUMBERS:
        return "numbers by name, such as {'speed': 1.0}"
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(_spell(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"tuple[{', '.join('...' if kind is Ellipsis else _spell(kind) for kind in typing.get_args(hint))}]"
    if hint is type(None):
        return "None"
    return getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)  # type: ignore[return-value]


def plain(value: T) -> T:
    """A config, and those in it, with Python's whole numbers where they were NumPy's."""
    changed = {}
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        item = getattr(value, field.name)
        if isinstance(item, np.integer):
            changed[field.name] = int(item)
        elif is_config(item) and not isinstance(item, type):
            changed[field.name] = plain(item)
    return dataclasses.replace(value, **changed) if changed else value  # type: ignore[type-var]


def type_name(cls: type) -> str:
    """What files call a config class. One of your own is never taken for one of ours of the same name."""
    return cls.__name__ if cls.__module__.partition(".")[0] == "thorndike" else f"own {cls.__name__}"


def not_given(name: str) -> str:
    """What to do about a class of one's own that a file names and that was not given; `name` is its `type_name`."""
    return (
        f"{name.removeprefix('own ')} is a class of your own, which no file can hold: give it again, on the command "
        "line with --classes ./FILE.py, in Python with classes=[...]"
    )


def types_in(value: Any) -> set[type]:
    """The classes of a config and of all configs in it, those in tuples too."""
    fields = [getattr(value, f.name) for f in dataclasses.fields(value)]
    inner = [item for field in fields for item in (field if isinstance(field, tuple) else (field,))]
    return {type(value)}.union(*(types_in(item) for item in inner if is_config(item)))


def to_json(value: Any) -> Any:
    """Plain JSON data for a config: nested dictionaries that carry the class's `type_name` under "type"."""
    if is_config(value):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type_name(type(value)), **fields}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def from_json(data: Any, known: Callable[[str], type | None]) -> Any:
    """Rebuild a config from `to_json`'s data, of the classes that `known` finds by their `type_name`, and no others.

    Raises:
        ConfigError: there is no such class, or its fields are not these.
    """
    if isinstance(data, list):
        return tuple(from_json(item, known) for item in data)
    if not isinstance(data, dict):
        return data
    name = str(data.get("type"))
    cls = known(name)
    if cls is None:
        raise ConfigError(
            not_given(name)
            if name.startswith("own ")
            else f"unknown configuration type {name!r}: it was saved by another version"
        )
    hints = cls.__thorndike_hints__  # type: ignore[attr-defined]
    fields: dict[str, Any] = {}
    for name, item in data.items():
        if hints.get(name) == NUMBERS and isinstance(item, dict):
            fields[name] = {key: np.asarray(x, np.float32) if isinstance(x, list) else x for key, x in item.items()}
        elif name != "type":
            found = from_json(item, known)
            numbers = isinstance(found, tuple) and _is_child(hints.get(name)) and not any(map(is_config, found))
            fields[name] = np.asarray(found, np.float32) if numbers else found
    unknown = set(fields) - {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    require(not unknown, f"{cls.__name__} has no field {', '.join(sorted(unknown))}: it was saved by another version")
    value = cls(**fields)
    check(value)
    return value


def swept_fields(value: Any) -> dict[str, list[float]]:
    """The float fields of a config that hold arrays, by their dotted names, and their values, with float32's digits."""
    leaves = jax.tree_util.tree_leaves_with_path(value)
    arrays = [(path, np.asarray(x, np.float32)) for path, x in leaves if np.ndim(x) == 1]
    return {jax.tree_util.keystr(path, simple=True, separator="."): [float(str(v)) for v in x] for path, x in arrays}


def sweep_of(algorithm: Any, env: Any) -> dict[str, list[float]]:
    """All that a run sweeps, by dotted names; those of an environment begin with "env."."""
    around = swept_fields(env) if is_config(env) else {}
    return {**swept_fields(algorithm), **{f"env.{name}": values for name, values in around.items()}}


def swept(value: Any) -> int | None:
    """The common length of the arrays among the float fields of one or more configs; None if there is no array.

    Raises `ConfigError` where two lengths differ.
    """
    sizes = {np.shape(leaf)[0] for leaf in jax.tree.leaves(value) if np.ndim(leaf) == 1}
    require(len(sizes) <= 1, f"arrays of hyperparameters must have one length, got lengths {sorted(sizes)}")
    return sizes.pop() if sizes else None
