"""Arguments by the names of other libraries, in another order, or of another kind: what is meant is told."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from thorndike.algorithms import algorithm_class, entry_of
from thorndike.configuration import is_config
from thorndike.errors import ConfigError, UnknownNameError
from thorndike.names import called

F = TypeVar("F", bound=Callable[..., Any])


def explained(function: F) -> F:
    """`function`, to which an argument that it does not have is a `ConfigError` that names the right one.

    Fields of the algorithm count as near misses: "gamma" is `discount`, which belongs into `td.PPO(discount=...)`.
    """
    known = list(inspect.signature(function).parameters)

    @wraps(function)
    def called_with(*args: Any, **kwargs: Any) -> Any:
        unknown = [name for name in kwargs if name not in known]
        if unknown:
            given = dict(zip(known, args)) | kwargs
            raise ConfigError(_told(f"td.{function.__name__}", unknown[0], known, given))
        return function(*args, **kwargs)

    return called_with  # type: ignore[return-value]


def _told(function: str, word: str, known: list[str], given: dict[str, Any]) -> str:
    fields = _fields(given.get("algorithm"))
    ours = called(word, known)
    if word in fields or (not ours.startswith(":") and called(word, fields).startswith(":")):
        hint = "" if word in fields else called(word, fields)
        name = word if word in fields else hint.removeprefix(": it is called ").partition(" ")[0].strip(",")
        return f"{function} has no argument {word!r}{hint}{',' if hint else ': it is'} {_where(name, given)}"
    return f"{function} has no argument {word!r}{ours}"


def _where(field: str, given: dict[str, Any]) -> str:
    """Where a field of the algorithm is written."""
    algorithm, env = given["algorithm"], given.get("env")
    outer, dot, _ = field.partition(".")
    what = f"{outer}=..." if not dot else f"{outer}=td...({field.partition('.')[2]}=...)"
    if isinstance(algorithm, str):
        return f"a field of the algorithm: td.preset({algorithm!r}, {env if isinstance(env, str) else 'ENV'!r}, {what})"
    cls = algorithm if isinstance(algorithm, type) else type(algorithm)
    return f"a field of the algorithm: td.{cls.__name__}({what})"


def _fields(algorithm: Any) -> list[str]:
    if isinstance(algorithm, str):
        try:
            algorithm = algorithm_class(algorithm)
        except UnknownNameError:
            return []
    return list(getattr(algorithm, "__thorndike_hints__", {}))


def check_order(algorithm: Any, env: Any) -> None:
    """Raise `ConfigError` where the environment was given first."""
    if _is_algorithm(env) and not _is_algorithm(algorithm):
        first, second = (repr(x) if isinstance(x, str) else "..." for x in (env, algorithm))
        raise ConfigError(f"the algorithm comes first, then the environment: td.train({first}, {second})")


def _is_algorithm(value: Any) -> bool:
    if not isinstance(value, str):
        return is_config(value) and hasattr(value, "act")
    try:
        return bool(entry_of(value))
    except UnknownNameError:
        return False
