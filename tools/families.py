"""The parts of the family pages that the code says: each algorithm's text, equations, settings and presets."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from equations import set_apart
from thorndike.algorithms import Entry, algorithm_class, entries
from thorndike.documentation import field_comments
from thorndike.presets import presets_of

ROOT = Path(__file__).parents[1]
PAGES = {  # of docs/algorithms: the folders and files of `thorndike.algorithms` whose algorithms they have
    "tabular": ("tabular.",),
    "value": ("value.dqn", "value.variants", "value.pqn"),
    "policy": ("policy.",),
    "actor-critic": ("actor_critic.",),
    "exploration": ("exploration.", "value.bootstrapped"),
    "offline": ("offline.",),
}
BEGIN, END = "<!-- from the code: make listings -->", "<!-- end of what is from the code -->"


def pages() -> dict[Path, str]:
    """The family pages as they should be."""
    found = {}
    for name, parts in PAGES.items():
        path = ROOT / f"docs/algorithms/{name}.md"
        before, _, rest = path.read_text("utf-8").partition(BEGIN)
        sections = "\n".join(section(entry) for entry in entries().values() if entry.module.startswith(parts))
        found[path] = f"{before}{BEGIN}\n\n{sections}\n{END}{rest.partition(END)[2]}"
    return found


def section(entry: Entry) -> str:
    """What an algorithm's class says."""
    cls = algorithm_class(entry.name)
    text = set_apart(inspect.cleandoc(cls.__dict__["__doc__"].text))
    lines = [
        f"## {entry.class_name}",
        "",
        f"`thorndike train {entry.name} ENV`, or `td.{entry.class_name}()`. Actions: {entry.actions}.",
        "",
        text,
        "",
        *_settings(cls),
        *_presets(entry, cls),
    ]
    return "\n".join(lines)


def _settings(cls: type) -> list[str]:
    """A folded table of the fields; of a variant, those that differ from what it varies."""
    comments, parent = field_comments(cls), cls.__mro__[1]
    known = {f.name: f.default for f in dataclasses.fields(parent)} if dataclasses.is_dataclass(parent) else {}
    fields = [f for f in dataclasses.fields(cls) if f.name not in known or known[f.name] != f.default]  # type: ignore
    if not fields:
        return []
    title = f"What differs from {parent.__name__}" if known else "Settings"
    rows = [f"| `{f.name}` | `{_shown(f.default)}` | {_cell(comments.get(f.name, ''))} |" for f in fields]
    return [
        f'<details markdown="1"><summary>{title}</summary>',
        "",
        "| field | default | what it is |",
        "|---|---|---|",
        *rows,
        "",
        "</details>",
        "",
    ]


def _shown(value: Any) -> str:
    """A default, as one would write it; a config without the fields that are its own defaults."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return _cell(repr(value))
    changed = [
        f"{f.name}={_shown(getattr(value, f.name))}"
        for f in dataclasses.fields(value)
        if f.default is dataclasses.MISSING or getattr(value, f.name) != f.default
    ]
    return f"{type(value).__name__}({', '.join(changed)})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _presets(entry: Entry, cls: type) -> list[str]:
    known = [f"`{name}`" for name in presets_of(cls)]
    return [f"Settings are known for {', '.join(known)}.", ""] if known else []
