"""Equations in docstrings, which are lines of Unicode text there, become blocks of Markdown."""

from __future__ import annotations

import re

BEGINS = re.compile(r"^(?:∇|max_θ|min_θ)|^\S*(?:, \S+)?(?:\([^()]*\))? (?:=|<-|∝) ")


def set_apart(text: str) -> str:
    """The text of a docstring with its equations in blocks of code, so that they keep their spaces."""
    found: list[str] = []
    inside = fence = False
    for line in text.splitlines():
        fence ^= line.lstrip().startswith("```")
        equation = not fence and not line.startswith("    ") and bool(BEGINS.match(line))
        if equation != inside:
            found += ["", "```text"] if equation else ["```", ""]
        found.append(line)
        inside = equation
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*found, "```"] if inside else found))
