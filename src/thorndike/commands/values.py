"""Values on the command line: whole numbers as 1e6, numbers as lists and schedules, lists of others as a grid of runs.

--learning-rate 1e-4,3e-4        a sweep in one program (several such lists: every combination)
--learning-rate linear:3e-4:0    a schedule
--num-envs 4,8                   a grid: a run for each
--torso.widths 64,64 256,256     a grid of two widths; 64,64 (or 64 64) alone is one
"""

from __future__ import annotations

import itertools
import typing
from typing import Any

from thorndike.names import did_you_mean

SCHEDULES = ("linear", "cosine", "exponential", "harmonic")


class Standing(float):
    """A schedule as the default of a field that is read as a number."""

    schedule: Any


def standing(algorithm: Any) -> Any:
    """The algorithm with numbers in the place of its schedules, which `settled` puts back."""
    import jax

    from thorndike.schedules import is_schedule

    def number(value: Any) -> Any:
        if not is_schedule(value):
            return value
        found = Standing(value.start)
        found.schedule = value
        return found

    return jax.tree.map(number, algorithm, is_leaf=is_schedule)


def restored(algorithm: Any) -> Any:
    """The inverse of `standing`, for fields that were left as they are."""
    import jax

    return jax.tree.map(lambda x: x.schedule if isinstance(x, Standing) else x, algorithm)


def number(text: str) -> Any:
    """A float, an array of floats ("1e-4,3e-4") or a schedule ("linear:3e-4:0"); raises `ValueError`."""
    name = text.partition(":")[0]
    if name in SCHEDULES:
        from thorndike.schedules import parse

        return parse(text)
    if ":" in text:
        raise ValueError(f"no schedule {name!r}{did_you_mean(name, SCHEDULES)}: there are {', '.join(SCHEDULES)}")
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a number, nor a list such as 1e-4,3e-4, nor a schedule such as linear:3e-4:0"
        ) from None
    if len(found) == 1:
        return found[0]
    import numpy as np

    return np.asarray(found, np.float32)


def whole(text: str) -> int:
    """A whole number, also where it is written 1e6; raises `ValueError`."""
    try:
        found = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if found != int(found):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text) if text.lstrip("+-").isdigit() else int(found)


def written(value: Any) -> str:
    """A float field's default as `number` reads it."""
    if isinstance(value, Standing):
        from thorndike.schedules import spell

        return spell(value.schedule)
    return f"{value:g}"


def command_line(command: Any, args: list[str], **how: Any) -> Any:
    """`tyro.cli`, with numbers as above."""
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        kind = info.type
        if kind is float:
            is_float = lambda x: isinstance(x, (int, float)) and not isinstance(x, bool)  # noqa: E731
            read = lambda words: number(words[0])  # noqa: E731
            return PrimitiveConstructorSpec(1, "FLOAT", read, is_float, lambda x: [written(x)])
        if kind is int:
            is_int = lambda x: isinstance(x, int) and not isinstance(x, bool)  # noqa: E731
            return PrimitiveConstructorSpec(1, "INT", lambda words: whole(words[0]), is_int, lambda x: [str(x)])
        return None

    with registry:
        return tyro.cli(command, args=args, **how)


def combined(algorithm: Any) -> Any:
    """An algorithm whose float fields hold arrays, with every combination of their values."""
    import jax
    import numpy as np

    leaves, structure = jax.tree.flatten(algorithm)
    places = [i for i, x in enumerate(leaves) if np.ndim(x) == 1]
    if len(places) < 2:
        return algorithm
    grid = np.meshgrid(*(leaves[i] for i in places), indexing="ij")
    for i, values in zip(places, grid):
        leaves[i] = values.ravel()
    return jax.tree.unflatten(structure, leaves)


def grid(cls: type, args: list[str]) -> list[list[str]]:
    """The command lines of a grid: one for each combination of what `args` list for fields that are not floats."""
    found: list[list[list[str]]] = []  # of each flag, its alternatives; each of them words
    i = 0
    while i < len(args):
        flag, equals, value = args[i].partition("=")
        j = i + 1
        while not equals and j < len(args) and not args[j].startswith("--"):
            j += 1
        values = [value] if equals else args[i + 1 : j]
        hint = hint_of(cls, flag) if flag.startswith("--") else None
        listed = hint is not None and any("," in word for word in values)
        if not listed:
            found.append([args[i:j]])
        elif typing.get_origin(hint) is tuple:
            found.append([[flag, *word.split(",")] for word in values])
        else:
            words = [word for value in values for word in value.split(",")]
            found.append([_flagged(flag, word, hint) for word in words])
        i = j
    return [[word for part in parts for word in part] for parts in itertools.product(*found)]


def _flagged(flag: str, word: str, hint: Any) -> list[str]:
    if hint is not bool:
        return [flag, word]
    path, dot, name = flag.removeprefix("--").rpartition(".")
    return [flag if word.lower() in ("true", "yes", "on", "1") else f"--{path}{dot}no-{name}"]


def hint_of(cls: Any, flag: str) -> Any:
    """The type of the field that a flag names, where that is not a float; None for others, and for no field at all."""
    *path, last = flag.removeprefix("--").replace("-", "_").split(".")
    from thorndike.configuration import is_config

    for name in path:
        kinds = _options(getattr(cls, "__thorndike_hints__", {}).get(name))
        cls = next((kind for kind in kinds if is_config(kind)), None)
    hint = getattr(cls, "__thorndike_hints__", {}).get(last)
    kinds = _options(hint)
    return None if hint is None or float in kinds else next((kind for kind in kinds if kind is not type(None)), None)


def _options(hint: Any) -> list[Any]:
    """The alternatives of a union, or the hint alone, without annotations."""
    if typing.get_origin(hint) is typing.Annotated:
        return _options(typing.get_args(hint)[0])
    args = typing.get_args(hint)
    union = hint is not None and (typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType")
    return [option for arg in args for option in _options(arg)] if union else [hint]
