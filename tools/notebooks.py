"""Run the notebooks and write them with their outputs: `python tools/notebooks.py [NAME...]`, a minute on two cores.

The source of a notebook is a Python file in `examples/notebooks` whose cells begin with `# %%`, as editors and Jupytext
know them; `# %% [markdown]` begins text. From it this writes the .ipynb beside it, which repository viewers and the
site show. Cells run in this process, in an empty directory, so Jupyter need not be installed.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import linecache
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[1] / "examples/notebooks"
MARK = "# %%"


class Cell(NamedTuple):
    """A part of a notebook."""

    kind: str  # "markdown" or "code"
    text: str


def cells_of(source: str) -> list[Cell]:
    """The cells of a source; what is above the first mark, such as its docstring, is not among them."""
    found = []
    for part in ("\n" + source).split(f"\n{MARK}")[1:]:
        head, _, body = part.partition("\n")
        kind = "markdown" if "[markdown]" in head else "code"
        lines = body.strip("\n").splitlines()
        if kind == "markdown":
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        found.append(Cell(kind, "\n".join(lines)))
    return found


def execute(name: str) -> dict[str, Any]:
    """The notebook of that name as JSON of Jupyter's format 4.5, its cells run in an empty directory."""
    written: list[dict[str, Any]] = []
    module = types.ModuleType("notebook")  # where configs defined in cells find the types that they name
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        sys.modules["notebook"] = module
        try:
            for cell in cells_of((FOLDER / f"{name}.py").read_text("utf-8")):
                entry: dict[str, Any] = {"cell_type": cell.kind, "id": f"cell-{len(written)}", "metadata": {}}
                if cell.kind == "code":
                    number = 1 + sum(x["cell_type"] == "code" for x in written)
                    entry |= {"execution_count": number, "outputs": run_cell(cell.text, module, f"<{name} {number}>")}
                written.append(entry | {"source": cell.text.splitlines(keepends=True)})
        finally:
            del sys.modules["notebook"]
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": written, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def run_cell(text: str, module: types.ModuleType, name: str) -> list[dict[str, Any]]:
    """What a cell prints, and its last expression's value, as Jupyter keeps them."""
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)  # for `inspect` and tracebacks
    body = ast.parse(text).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    told, value = io.StringIO(), None
    with contextlib.redirect_stdout(told):
        exec(compile(ast.Module(body, []), name, "exec", dont_inherit=True), vars(module))
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval", dont_inherit=True), vars(module))
    outputs: list[dict[str, Any]] = []
    if told.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": told.getvalue().splitlines(keepends=True)})
    if value is not None:
        outputs.append({"output_type": "display_data", "metadata": {}, "data": shown(value)})
    return outputs


def shown(value: Any) -> dict[str, Any]:
    """A value by the media types in which Jupyter would show it."""
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
        data["text/plain"] = ["a figure"]
    text = value._repr_html_() if hasattr(value, "_repr_html_") else None
    if text is not None:
        data["text/html"] = text.splitlines(keepends=True)
    return data


def as_markdown(notebook: dict[str, Any]) -> str:
    """A notebook as a page of the site: text, code, and below each cell what it gave."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", [])})
            if "text/html" in data:
                parts.append(f'<div class="output">{"".join(data["text/html"])}</div>')
            elif "image/png" in data:
                parts.append(
                    f'<div class="output"><img alt="figure" src="data:image/png;base64,{data["image/png"]}"></div>'
                )
            else:
                text = "".join(data["text/plain"]).rstrip("\n")
                parts.append(f'<div class="output" markdown="1">\n\n```text\n{text}\n```\n\n</div>')
    return "\n\n".join(parts) + "\n"


def main(names: list[str]) -> None:
    """Write the notebooks of these names, or all."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name in names or sorted(path.stem for path in FOLDER.glob("*.py")):
        text = json.dumps(execute(name), indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.ipynb").write_text(f"{text}\n", "utf-8")
        print(FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    main(sys.argv[1:])
