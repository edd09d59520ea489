"""Docstrings of configs with the meaning of every field, from the comments beside them: `help(td.PPO)`."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

_FIELD = re.compile(r"^    (\w+): .*?(?:  # (.*))?$")


class Documented:
    """In the place of a class's `__doc__`: its docstring, and a list of fields that is made when it is first read."""

    def __init__(self, text: str | None):
        self.text, self.made = text or "", ""

    def __get__(self, instance: Any, owner: type) -> str:
        self.made = self.made or self._made(owner)
        return self.made

    def _made(self, owner: type) -> str:
        comments = field_comments(owner)
        lines = []
        for field in dataclasses.fields(owner):  # type: ignore[arg-type]
            default = "" if field.default is dataclasses.MISSING else f" = {_short(field.default)}"
            told = f": {comments[field.name]}" if comments.get(field.name) else ""
            lines.append(f"    {field.name}{default}{told}")
        return "\n".join([inspect.cleandoc(self.text), "", "Fields:", *lines]) if lines else self.text


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__}(...)"


def field_comments(cls: type) -> dict[str, str]:
    """What the source says beside each field of a class and of the classes that it is based on."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            lines = inspect.getsource(base).splitlines() if dataclasses.is_dataclass(base) else []
        except (OSError, TypeError):  # typed at a prompt
            continue
        for line in lines:
            if match := _FIELD.match(line):
                found[match[1]] = match[2] or ""
    return found
