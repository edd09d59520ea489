"""What MkDocs cannot know: pages that lie outside of docs/, links to these, and the reference of every public name.

A hook of `mkdocs.yml`. Pages of the root, of benchmarks/ and of examples/, notebooks too, become pages of the site; a
link to a file that is none of its pages becomes the name of the file.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from thorndike.exports import find, homes

sys.path.insert(0, str(Path(__file__).parent))

from notebooks import as_markdown

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")
PARTS = {  # the first part of a module's name: the page of the reference, and what it is about
    "runs": ("running", "Training and runs", "Training, resuming, evaluating, comparing, exporting."),
    "algorithms": ("algorithms", "Algorithms", "Every algorithm and its hyperparameters."),
    "envs": ("environments", "Environments", "Built-in environments, wrappers and adapters."),
    "nets": ("networks", "Networks", "Torsos, encoders, heads and memory."),
    "memory": ("memory", "Replay and datasets", "What off-policy algorithms learn from."),
    "planning": ("planning", "Planners", "Planners that sample sequences of actions."),
    "ops": ("parts", "Parts of algorithms", "Exploration, noise, optimisers, schedules, returns."),
    "types": ("own", "For your own", "The types that environments and algorithms of your own meet, and errors."),
}  # fmt: skip
ALIKE = {  # what is on the page of another part; parts that are in neither are with runs
    "schedules": "ops", "configuration": "types", "errors": "types", "checks": "types", "drivers": "runs",
    "presets": "runs", "choosing": "runs", "sinks": "runs", "": "runs", "serve": "runs",
}  # fmt: skip


def outside() -> dict[str, str]:
    """Files of the repository outside of docs/ that are shown: their paths, and those of their pages."""
    found = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    for path in [*sorted(ROOT.glob("benchmarks/*.md")), *sorted(ROOT.glob("benchmarks/results/*.[mp][dn]*"))]:
        name = path.relative_to(ROOT).as_posix()
        found[name] = name.replace("README.md", "index.md")
    for path in sorted(ROOT.glob("examples/*.py")):
        found[f"examples/{path.name}"] = f"examples/{path.stem}.md"
    for path in sorted(ROOT.glob("examples/notebooks/*.ipynb")):
        found[f"examples/notebooks/{path.name}"] = f"examples/notebooks/{path.stem}.md"
    return found


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave pages that are not written yet out of the navigation."""
    config.nav = _written(config.nav or [])
    return config


def _written(entries: list[Any]) -> list[Any]:
    generated = {*outside().values(), *(f"reference/{page}.md" for page in ("index", *(x for x, *_ in PARTS.values())))}
    found: list[Any] = []
    for entry in entries:
        target = next(iter(entry.values())) if isinstance(entry, dict) else entry
        if isinstance(target, list):
            found.append({next(iter(entry)): _written(target)})
        elif (ROOT / "docs" / target).exists() or target in generated:
            found.append(entry)
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is not in docs/."""
    for source, page in outside().items():
        path = ROOT / source
        if page.endswith(".md"):
            text = path.read_text("utf-8")
            if source.endswith(".ipynb"):
                text = as_markdown(json.loads(text))
            elif source.endswith(".py"):
                text = f"# {source}\n\n```python\n{text}```\n"
            files.append(File.generated(config, page, content=text))
        else:
            files.append(File.generated(config, page, abs_src_path=str(path)))
    for name, text in reference().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site."""
    sources = {site: repository for repository, site in outside().items()}
    here = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    pages = {**outside(), "README.md": "index.md"}

    def led(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[1]))
        site = pages.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if site is None:
            return "]" if (ROOT / target).exists() else match[0]
        return f"]({posixpath.relpath(site, posixpath.dirname(page.file.src_uri) or '.')}{match[2] or ''})"

    return LINK.sub(led, markdown)


def reference() -> dict[str, str]:
    """The pages of the reference, by their names."""
    sections: dict[str, list[str]] = {part: [] for part in PARTS}
    for name, home in homes().items():
        part = home.partition(".")[0]
        sections[ALIKE.get(part, part if part in PARTS else "runs")].append(_entry(name, home))
    pages = {
        page: "\n".join([f"# {title}", "", about, "", *sections[part]]) for part, (page, title, about) in PARTS.items()
    }
    lines = [f"- [{title}]({page}.md): {about}" for page, title, about in PARTS.values()]
    pages["index"] = "\n".join(["# Reference", "", "Every public name, `import thorndike as td`.", "", *lines, ""])
    return pages


def _entry(name: str, home: str) -> str:
    """The directive for one name. Of an algorithm fields are shown, and not the methods that drivers call."""
    value: Any = find(name)
    lines = [f"::: thorndike.{home + '.' if home else ''}{name}", "    options:", f"      heading: td.{name}"]
    if not home:
        lines += ["      members: true", "      show_root_members_full_path: false"]
    elif home.startswith("algorithms.") and dataclasses.is_dataclass(value):
        own = [field for field in getattr(value, "__annotations__", {}) if field in _fields(value)]
        lines += [f"      members: {own}" if own else "      members: false"]
    return "\n".join([*lines, ""])


def _fields(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}
