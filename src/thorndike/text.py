"""Short texts for people: paths, returns, durations. Imports nothing heavy."""

from __future__ import annotations

import textwrap
from pathlib import Path
from shutil import get_terminal_size

LONGEST = 80  # characters of a space in a message


def near(path: Path) -> str:
    """The path from the working directory on, where it is below that."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def score(number: float) -> str:
    """A return: one digit behind the point, two where it is below 10."""
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def brief(space: object) -> str:
    """A space as its `repr`, on one line: what would be long is cut out of its middle."""
    whole = " ".join(repr(space).split())
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST // 2]} ... {whole[-LONGEST // 2 :]}"


def duration(seconds: float) -> str:
    """ "12 s", "3 min", "5 h 05 min" or "3 d"."""
    if seconds < 99.5:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes < 48 * 60 else f"{minutes / 1440:.0f} d"


def age(seconds: float) -> str:
    """How long ago something was, in its largest unit: "12 s", "3 min", "29 h", "3 d"."""
    hours = seconds / 3600
    return duration(seconds) if hours < 1.66 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"


def wrapped(paragraphs: list[str], indent: int = 2) -> str:
    """Paragraphs, broken at the terminal's width; all but their first lines are indented twice."""
    first, rest = " " * indent, " " * (2 * indent)
    width = max(40, get_terminal_size((100, 24)).columns)
    return "\n".join(
        "\n".join(textwrap.wrap(x, width, initial_indent=first, subsequent_indent=rest)) for x in paragraphs
    )


def columns(rows: list[tuple[str, str]], indent: int = 2) -> str:
    """Names and what is said of each, which is broken at the terminal's width."""
    width = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, text in rows:
        wide = max(40, get_terminal_size((100, 24)).columns - indent - width)
        first, *rest = textwrap.wrap(text, wide) or [""]
        lines.append(f"{' ' * indent}{name:{width}}{first}")
        lines += [" " * (indent + width) + line for line in rest]
    return "\n".join(lines)
