"""An extension of Griffe, which the API reference is made with: fields have the comments beside them as docstrings, and
equations stand apart."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))

from equations import set_apart

FIELD = re.compile(r"^    \w+(?:: .*?)?(?: = .*?)?  # (.*)$")


class Docstrings(griffe.Extension):
    """Fields of configs are explained by comments, as `help(td.PPO)` shows them."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is None and attr.lineno is not None and attr.parent is not None and attr.parent.is_class:
            match = FIELD.match(attr.lines_collection[attr.filepath][attr.lineno - 1])  # type: ignore[index]
            if match:
                attr.docstring = griffe.Docstring(match[1], lineno=attr.lineno, endlineno=attr.lineno, parent=attr)

    def on_class_instance(self, *, cls: griffe.Class, **_: Any) -> None:
        if cls.docstring is not None:
            cls.docstring.value = set_apart(cls.docstring.value)
