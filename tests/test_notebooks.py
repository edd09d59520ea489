"""Notebooks are what their sources say, show no more than what they are about, and run in under a minute."""

from __future__ import annotations

import json
import re
import time

import pytest

from notebooks import FOLDER, as_markdown, cells_of, execute, run_cell

NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
SECONDS = 60  # of processor time, on two cores


def notebook(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))


def noise(shown: dict) -> list[str]:
    """Parts of outputs that say more about a machine than about the notebook: paths, bars, times of day, errors."""
    outputs = [output for cell in shown["cells"] for output in cell.get("outputs", [])]
    texts = ["".join(x.get("text", []) or x["data"]["text/plain"]) for x in outputs]
    found = re.compile(r"/(?:tmp|home|root|Users|var)/|steps/s|█|Traceback|Warning|\b\d\d:\d\d:\d\d\b|0x[0-9a-f]{6}")
    return [match for text in texts for match in found.findall(text)]


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_renewed(name):
    """`make notebooks` was run after the last change of the source."""
    kept = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook(name)["cells"]]
    assert kept == [tuple(cell) for cell in cells_of((FOLDER / f"{name}.py").read_text("utf-8"))]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_small_and_say_nothing_of_the_machine(name):
    shown = notebook(name)
    assert not noise(shown)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 400_000
    assert any(cell.get("outputs") for cell in shown["cells"])
    shown["cells"][1]["outputs"] = [{"text": ["in /home/someone/runs\n"]}]
    assert noise(shown)  # the check sees it


def test_cells():
    assert cells_of('"""About."""\n\n# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 1\n\nx\n') == [
        ("markdown", "# Title\n\ntext"),
        ("code", "x = 1\n\nx"),
    ]


def test_outputs_of_a_cell():
    """Printed text, then the last expression's value; a statement at the end has none."""
    import types

    module = types.ModuleType("m")
    printed, value = run_cell("print('a')\n[1, 2]", module, "<m>")
    assert printed["text"] == ["a\n"]
    assert value["data"] == {"text/plain": ["[1, 2]"]}
    assert run_cell("x = 3", module, "<m>") == []
    assert module.x == 3
    with pytest.raises(ZeroDivisionError):
        run_cell("1 / 0", module, "<m>")


def test_pages():
    cells = [{"cell_type": "code", "source": ["1 + 1"], "outputs": [{"data": {"text/plain": ["2"]}}]}]
    page = as_markdown({"cells": [{"cell_type": "markdown", "source": ["# T"]}, *cells]})
    assert page.startswith("# T\n\n```python\n1 + 1\n```\n\n")
    assert "```text\n2\n```" in page


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "to_a_file" else pytest.mark.slow) for name in NAMES]
)
def test_notebooks_run(name):
    """From top to bottom, in the time that they promise, with outputs of the kinds that are kept."""
    start = time.process_time()
    shown = execute(name)
    assert time.process_time() - start < 2 * SECONDS  # of both cores
    assert not noise(shown)
    kinds = [[sorted(x.get("data", ())) for x in cell.get("outputs", [])] for cell in shown["cells"]]
    kept = [[sorted(x.get("data", ())) for x in cell.get("outputs", [])] for cell in notebook(name)["cells"]]
    assert kinds == kept
