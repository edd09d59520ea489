"""Environments and algorithms in modules of one's own, as the command line names them.

A path or a module that a user types is imported. What a run's directory says never is.
"""

from __future__ import annotations

import ast
import importlib.util
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from thorndike.errors import ConfigError, UnknownNameError
from thorndike.names import did_you_mean

WORDS = {"true": True, "false": False, "none": None, "null": None}
TYPED: dict[str, str] = {}  # modules that were named by their file, and that file as it was typed


def on_path(name: str) -> str:
    """The name by which Python finds what a user named, with the folder of its module on the path.

    "my_envs:Chain-v0" stays, and its module may be in the working directory; "./games/maze.py:Maze" is "maze:Maze".

    Raises:
        ConfigError: there is no such file, or Python has another module of its name.
    """
    module, colon, thing = name.rpartition(":")
    if not colon and name.endswith(".py"):
        raise ConfigError(f"{name} is a file: say which class or function in it, {name}:NAME")
    return f"{_importable(module)}:{thing}" if colon else name


def _importable(place: str) -> str:
    """The module at a file, or of a name, with its folder on the path."""
    file = Path(place)
    if file.suffix != ".py":
        _search(Path())
        return place
    if not file.is_file():
        raise ConfigError(f"there is no file {place}")
    _search(file.parent)
    loaded = sys.modules.get(file.stem)
    spec = None if "." in file.stem else getattr(loaded, "__spec__", None) or importlib.util.find_spec(file.stem)
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != file.resolve():
        raise ConfigError(f"Python has another module {file.stem!r}, or cannot import one of that name: rename {place}")
    TYPED[file.stem] = place
    return file.stem


def _search(folder: Path) -> None:
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))


def own_algorithm(name: str) -> Any:
    """The class that "reinforce:REINFORCE" names, of a module that Python finds.

    Raises:
        UnknownNameError: there is no such module, or nothing of that name in it.
        ConfigError: it is no algorithm.
    """
    from thorndike.configuration import is_config
    from thorndike.envs.adapters.gymnasium import own_module

    module, word = own_module(name), name.rpartition(":")[2]
    mine = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    if not hasattr(module, word):
        algorithms = [key for key, value in mine.items() if hasattr(value, "act")]
        there = f"; it has {', '.join(algorithms)}" if algorithms else "; it has no algorithm"
        raise UnknownNameError(f"{module.__name__} has nothing called {word!r}{did_you_mean(word, mine)}{there}")
    found = getattr(module, word)
    if not hasattr(found, "act"):
        turned = hasattr(found, "step") or hasattr(found, "reset")
        order = ": the algorithm comes first, then the environment" if turned else ": it has no method act"
        raise ConfigError(f"{name} is no algorithm{order}")
    if not isinstance(found, type):
        raise ConfigError(f"{name} is not a class: name its class, {type(found).__name__}")
    if not is_config(found) or "__thorndike_hints__" not in vars(found):
        raise ConfigError(f"{name} needs the decorator @td.config above its class")
    return found


def classes_in(places: Iterable[str]) -> list[type]:
    """The config classes of one's own in files ("./reinforce.py", "./reinforce.py:REINFORCE") or modules."""
    from thorndike.configuration import is_config, type_name
    from thorndike.envs.adapters.gymnasium import own_module

    found: list[type] = []
    for place in places:
        module = own_module(f"{_importable(place.rpartition(':')[0] or place)}:")
        here = [value for value in vars(module).values() if isinstance(value, type) and is_config(value)]
        here = [cls for cls in here if type_name(cls).startswith("own ")]
        if not here:
            raise ConfigError(f"{place} has no class with @td.config")
        found += here
    return found


def typed(classes: Iterable[type]) -> list[str] | None:
    """The files in which a user named these classes; None where they are elsewhere, in a script say."""
    modules = dict.fromkeys(cls.__module__ for cls in classes)
    return [TYPED[module] for module in modules] if all(module in TYPED for module in modules) else None


def as_typed(name: str) -> str:
    """An environment's id as a command line takes it: with its file, where it was named by that."""
    module, colon, thing = name.rpartition(":")
    return shlex.quote(f"{TYPED.get(module, module)}{colon}{thing}")


def arguments(words: tuple[str, ...]) -> dict[str, Any]:
    """{"size": 5, "name": "big"} of the words "size=5" and "name=big"."""
    found = {}
    for word in words:
        at = min((i for i in (word.find("="), word.find(":")) if i > 0), default=0)
        if not at:
            raise ConfigError(f"--env-kwargs takes words such as size=5, not {word!r}")
        found[word[:at].replace("-", "_")] = _value(word[at + 1 :])
    return found


def _value(text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
