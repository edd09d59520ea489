"""Files that repeat the package's lists say what the lists say, and looking at the lists imports nothing heavy."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import thorndike as td
from thorndike.algorithms import MODULES, entries
from thorndike.exports import find, homes

ROOT = Path(__file__).parents[1]


def test_what_is_generated_is_up_to_date():
    spec = importlib.util.spec_from_file_location("listings", ROOT / "tools/listings.py")
    listings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(listings)
    stale = [path.name for path, text in listings.listings().items() if path.read_text("utf-8") != text]
    assert not stale, "run: make listings"


def test_every_file_of_algorithms_is_in_the_list():
    folder = ROOT / "src/thorndike/algorithms"
    files = {".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.glob("*/*.py")}
    decorated = {
        name for name in files if "\n@algorithm(" in (folder / name.replace(".", "/")).with_suffix(".py").read_text()
    }
    assert decorated == set(MODULES) == {entry.module for entry in entries().values()}


def test_every_public_name_is_there():
    for name in homes():
        assert find(name) is getattr(td, name)
    assert set(homes()) <= set(dir(td))


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import thorndike as td; dir(td); from thorndike.algorithms import entries; entries()", ("jax", "gymnasium")),
        (
            "import thorndike as td; td.DQN",
            ("thorndike.algorithms.policy.ppo", "thorndike.runs"),
        ),
    ],
)
def test_what_is_not_asked_for_is_not_imported(code, heavy):
    check = f"{code}; import sys; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", check], text=True).strip() == "[]"
