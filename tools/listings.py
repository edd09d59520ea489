"""Write what is listed elsewhere from the lists in the package: `__init__.pyi` and the README's table of algorithms."""

from __future__ import annotations

from pathlib import Path

from thorndike.algorithms import entries
from thorndike.exports import PARTS

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- algorithms -->", "<!-- end of algorithms -->"


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


def table() -> str:
    """The README's table of algorithms."""
    rows = [
        f"| `{entry.name}` | `td.{entry.class_name}` | {entry.summary} | {entry.actions} |"
        for entry in entries().values()
    ]
    return "\n".join(["| name | class | what it is | actions |", "|---|---|---|---|", *rows])


def listings() -> dict[Path, str]:
    """The files as they should be."""
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return {
        ROOT / "src/thorndike/__init__.pyi": stub(),
        readme: f"{before}{BEGIN}\n{table()}\n{END}{after}",
    }


if __name__ == "__main__":
    for path, text in listings().items():
        path.write_text(text, "utf-8")
