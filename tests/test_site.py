"""The documentation builds without warnings, loads nothing from other hosts, and shows equations and fields."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from equations import set_apart
from thorndike.exports import homes

ROOT = Path(__file__).parents[1]


def test_equations_stand_apart():
    equations, rest = "Q(s, a) <- Q(s, a) + α δ\ny = r + γ V(s')", "Where Q(s, a) = 0 at first, all is well."
    text = f"Paper (1990).\n\n{equations}\n\n{rest}"
    assert set_apart(text) == f"Paper (1990).\n\n```text\n{equations}\n```\n\n{rest}"
    assert set_apart("∇J(θ) = E[x]\nthe rest") == "\n```text\n∇J(θ) = E[x]\n```\n\nthe rest"
    assert set_apart("No equation here.\n\n    a = indented") == "No equation here.\n\n    a = indented"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    program = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip()
    return folder


@pytest.mark.slow
def test_nothing_is_loaded_from_other_hosts(site):
    loads = re.compile(
        r"<(?:script|img|iframe|link|source|video)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//", re.IGNORECASE
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        found = [x for x in loads.findall(page.read_text("utf-8")) if "canonical" not in x]
        assert not found, f"{page.name}: {found}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)[\s\"']*(?:https?:)?//", sheet.read_text("utf-8")), sheet.name


@pytest.mark.slow
def test_links_between_pages_lead_somewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        for target in re.findall(r"(?:href|src)=\"([^\"#?]+)", text):
            target = html.unescape(target)
            if page.name != "404.html" and not re.match(r"[a-z]+:|/", target):
                assert (page.parent / target).exists(), f"{page.relative_to(site)}: {target}"


@pytest.mark.slow
def test_the_reference_has_every_public_name(site):
    text = "".join(page.read_text("utf-8") for page in (site / "reference").glob("*.html"))
    missing = [
        name for name, home in homes().items() if f'id="thorndike.{home + "." if home else ""}{name}"' not in text
    ]
    assert not missing
    assert "of the advantage estimates" in text  # the comment beside PPO.trace
