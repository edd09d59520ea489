"""Every command and every block of Python of the README and of all pages in docs/ is run.

Blocks of Python run in their order in one namespace, commands in their order, as they are printed, but a wrapper around
`td.train` cuts each training to `STEPS` steps, its evaluations to two episodes, and networks to one layer that compiles
quickly. `LEFT_OUT` says what is not run, and why. Blocks of other languages are text. Pages that are not
among `QUICK` are slow tests.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import thorndike as td
from thorndike import own_modules
from thorndike.cli import main
from thorndike.runs.training import resume as resuming
from thorndike.runs.training import train as training
from thorndike.runs.tuning import tune as tuning

ROOT = Path(__file__).parents[1]
STEPS = 2048

LEFT_OUT = {  # the beginning of a line: why it is not run
    "python3 -m venv": "sets up what the tests run in",
    ". .venv": "sets up what the tests run in",
    "pip install": "sets up what the tests run in",
    "thorndike play": "asks for moves",
    "thorndike gtp": "waits for another program",
    "thorndike ui": "serves until it is stopped; tests/ui starts it",
    "thorndike train alphazero": "compiles for a minute; tests/runs/test_games.py trains, evaluates and plays it",
    "thorndike evaluate runs/ttt": "there is no such run without the line before",
    "python docs/pages": "tests/test_pages.py draws these pictures",
}
QUICK = ("README.md", "docs/own.md", "docs/choosing.md")  # in the default suite: some 25 s in all

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages(language: str) -> list[Any]:
    """The pages with such blocks, slow ones marked."""
    names = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names if blocks(name, language)
    ]


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall((ROOT / page).read_text("utf-8")) if kind == language]


def commands(page: str) -> list[str]:
    lines = [line.strip() for block in blocks(page, "") for line in block.splitlines() if line.strip()]
    return [line for line in lines if not any(line.startswith(start) for start in LEFT_OUT)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with the examples in it, where trainings are short."""

    def short(train):
        @functools.wraps(train)
        def shortly(algorithm: Any, env: Any, steps: Any = None, **options: Any):
            evaluations = {"evaluate_every": 1024, "evaluate_episodes": 2} if options.get("evaluate_every") else {}
            kept = {"checkpoint_steps": 1024} if options.get("checkpoint_steps") else {}
            options |= {**evaluations, **kept}
            batches = 20 if options.get("dataset") is not None else STEPS
            algorithm = td.preset(algorithm, env) if isinstance(algorithm, str) else algorithm
            torso = getattr(algorithm, "torso", None)
            if torso in (td.Torso(), td.Torso(frozen=True)):
                algorithm = dataclasses.replace(
                    algorithm, torso=dataclasses.replace(torso, widths=(8,), init="uniform")
                )
            return train(algorithm, env, min(steps or batches, batches), **options)

        return shortly

    def shortly_resumed(path, steps=None, *args, **options):
        more = None if steps is None else td.open_run(path, **_own(args, options)).status["steps"] + 1024
        return resume(path, more, *args, **options)

    def shortly_tuned(*args, **options):
        return tune(*args, **{**options, "trials": 4, "steps": 2 * STEPS, "progress": False})

    resume, tune = resuming.resume, tuning.tune
    _ = td.train, td.resume, td.tune  # found now: the package keeps what it finds first
    for module, name, function in [
        (training, "train", short(training.train)),
        (resuming, "resume", shortly_resumed),
        (td, "train", short(training.train)),
        (td, "resume", shortly_resumed),
        (tuning, "tune", shortly_tuned),
        (td, "tune", shortly_tuned),
    ]:
        monkeypatch.setattr(module, name, function, raising=False)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("corridor", "reinforce"):
        sys.modules.pop(name, None)
        own_modules.TYPED.pop(name, None)


def _own(args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    given = {**dict(zip(("env", "classes"), args)), **options}
    return {name: given[name] for name in ("env", "classes") if name in given}


def expanded(line: str) -> list[str]:
    """The words of a line, with the shell's `*`."""
    words = shlex.split(line, comments=True)
    return [x for word in words for x in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]


def run(page: str) -> int:
    """Run the commands of a page; how many there were."""
    lines = commands(page)
    for line in lines:
        program, *words = expanded(line)
        assert program == "thorndike", f"{line}: run it, or say in LEFT_OUT why not"
        assert main(words) == 0, line
    return len(lines)


COMMANDS = [page for page in pages("") if page.values[0] != "docs/own.md"]  # which tests/test_own.py asks for in detail
COMMANDS += [pytest.param("docs/own.md", marks=pytest.mark.slow)]


@pytest.mark.parametrize("page", COMMANDS)
def test_commands(page, here):
    assert run(page)


@pytest.mark.parametrize("page", pages("python"))
def test_python(page, here):
    names: dict[str, Any] = {"__name__": "readme"}
    found = blocks(page, "python")
    assert found
    if 'open_run("runs/' in found[0]:  # which the page's commands make
        run(page)
    for text in found:
        exec(compile(text, page, "exec", dont_inherit=True), names)


def test_what_is_left_out_is_there():
    lines = [line for page in pages("") for block in blocks(page.values[0], "") for line in block.splitlines()]
    assert all(any(line.startswith(start) for line in lines) for start in LEFT_OUT)


def test_every_command_is_shown():
    from thorndike.commands import COMMANDS

    text = (ROOT / "README.md").read_text("utf-8")
    assert all(f"thorndike {name}" in text for name in COMMANDS)


def test_links_lead_somewhere():
    generated = {"reference/index.md"}  # by the site
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists() or target in generated, f"{page.name}: {target}"


def test_what_a_page_says_we_measured_is_in_the_results():
    """The column "ours" of the family pages repeats cells of benchmarks/results."""
    places = [*(ROOT / "benchmarks/results").glob("learning*.md"), ROOT / "benchmarks/results/model-based.md"]
    results = "".join(path.read_text("utf-8") for path in places)
    found = 0
    for page in (ROOT / "docs").rglob("*.md"):
        header: list[str] = []
        for line in page.read_text("utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
            header = cells if "ours" in cells else header if cells else []
            if header and cells != header and not set(line) <= set("|-"):
                row = dict(zip(header, cells))
                rows = [x for x in results.splitlines() if x.startswith(f"| {row['algorithm']} |")]
                assert any(row["ours"] in x and row["environment"].partition(",")[0] in x for x in rows), row
                found += 1
    assert found > 30
