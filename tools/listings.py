"""Write what is listed elsewhere from what the package says: `__init__.pyi`, tables of the README and of pages, and
what the family pages say of each algorithm."""

from __future__ import annotations

from pathlib import Path

import families
from thorndike.algorithms import entries
from thorndike.exports import PARTS
from thorndike.names import OTHERS
from thorndike.runs.training.signs import SIGNS

ROOT = Path(__file__).parents[1]


def stub() -> str:
    """Every public name for editors and type checkers: at run time they are loaded when they are first used."""
    modules = {module: list(names) for module, names in PARTS.items()}
    for entry in entries().values():
        modules.setdefault(f"algorithms.{entry.module}", []).append(entry.class_name)
    lines = [
        f"from thorndike{'.' * bool(module)}{module} import {name} as {name}"
        for module in sorted(modules)
        for name in sorted(modules[module])
    ]
    return "\n".join(["# Written by tools/listings.py", *lines, "", "__version__: str", ""])


def algorithms() -> str:
    """The README's table of algorithms."""
    rows = [
        f"| `{entry.name}` | `td.{entry.class_name}` | {entry.summary} | {entry.actions} |"
        for entry in entries().values()
    ]
    return "\n".join(["| name | class | what it is | actions |", "|---|---|---|---|", *rows])


def signs() -> str:
    """What the doctor looks for."""
    rows = [
        f"| {sign.name} | {' '.join((sign.rule.__doc__ or '').split())} | {sign.causes} | {sign.remedies} |"
        for sign in SIGNS
    ]
    return "\n".join(["| sign | rule | usual causes | try |", "|---|---|---|---|", *rows])


def names() -> str:
    """What other libraries call a setting, and what it is called here."""
    rows = [f"| `{theirs}` | {ours} |" for theirs, ours in sorted(OTHERS.items())]
    return "\n".join(["| there | here |", "|---|---|", *rows])


def filled(page: str, mark: str, text: str) -> str:
    """A page with `text` between `<!-- mark -->` and `<!-- end of mark -->`."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, _, rest = (ROOT / page).read_text("utf-8").partition(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def listings() -> dict[Path, str]:
    """The files as they should be."""
    return {
        ROOT / "src/thorndike/__init__.pyi": stub(),
        ROOT / "README.md": filled("README.md", "algorithms", algorithms()),
        ROOT / "docs/health.md": filled("docs/health.md", "signs", signs()),
        ROOT / "docs/migrating.md": filled("docs/migrating.md", "names", names()),
        **families.pages(),
    }


if __name__ == "__main__":
    for path, text in listings().items():
        path.write_text(text, "utf-8")
