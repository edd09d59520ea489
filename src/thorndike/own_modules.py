"""Environments in modules of one's own, as the command line names them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

from thorndike.errors import ConfigError

WORDS = {"true": True, "false": False, "none": None, "null": None}


def on_path(env: str) -> str:
    """The id by which Python finds an environment, with the folder of its module on the path.

    "my_envs:Chain-v0" stays, and its module may be in the working directory; "./games/maze.py:Maze" is "maze:Maze".
    """
    module, colon, name = env.rpartition(":")
    if not colon:
        return env
    file = Path(module)
    if file.suffix == ".py" and not file.is_file():
        raise ConfigError(f"there is no file {module}")
    folder, module = (file.parent, file.stem) if file.suffix == ".py" else (Path(), module)
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    return f"{module}:{name}"


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
