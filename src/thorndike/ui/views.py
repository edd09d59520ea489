"""The two pages: the list of runs, and chosen runs side by side. Whatever runs say is text in them, never markup."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from thorndike.errors import CheckpointError, ConfigError
from thorndike.pages import COLOURS, Html, html, table, text
from thorndike.runs.results.listing import COLUMNS
from thorndike.settings import differing, flat, spell
from thorndike.ui.events import Stream
from thorndike.ui.folder import Folder

CSS = """
body { max-width: 76rem; } a { color: var(--c0); } .broken { color: var(--c1); }
button, input { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: .15rem .7rem; } button:enabled { cursor: pointer; }
:disabled { opacity: .45; } input[type=number] { width: 8rem; }
.runs td:nth-child(n + 6):nth-child(-n + 8) { text-align: right; }
.said { margin-left: .7rem; color: var(--faint); } figure svg { display: block; }
video, .picture img { max-width: 26rem; max-height: 20rem; }
.charts, .picture { display: inline; } .band { stroke: none; } polyline { fill: none; stroke-width: 2; }
details { margin: 1rem 0; } .gone { opacity: .5; }
"""
HEAD = ("", *COLUMNS)


def index(folder: Folder, lines: list[dict[str, Any]], word: str) -> str:
    """The list of all runs."""
    if lines:
        body = Html("".join(_line(line) for line in lines))
    else:
        body = Html(f"<tr><td></td><td>{html(f'there is no run in {folder.path} yet')}</td></tr>")
    head = Html("".join(f"<th>{html(name)}</th>" for name in HEAD))
    form = Html(
        f'<form action="/show"><table class="runs"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        '<p class="more"><button>show the chosen runs side by side</button></p></form>'
    )
    return page(f"runs in {folder.path}", "index", [], word, [form])


def _line(line: dict[str, Any]) -> Html:
    """A run's line, as the script makes it too."""
    if "error" in line:
        said = f"<td></td><td>{html(line['run'])}</td>" + f'<td class="broken" colspan="{len(COLUMNS) - 1}">'
        return Html(f'<tr data-run="{html(line["run"])}">{said}broken: {html(line["error"])}</td></tr>')
    name, *cells = line["cells"]
    box = f'<td><input type="checkbox" name="run" value="{html(line["run"])}"></td>'
    link = f'<td><a href="{html(address("/show", line["run"]))}">{html(name)}</a></td>'
    return Html(
        f'<tr data-run="{html(line["run"])}">{box}{link}{"".join(f"<td>{html(cell)}</td>" for cell in cells)}</tr>'
    )


def show(stream: Stream, word: str) -> str:
    """Chosen runs: where each stands, what can be done, what differs between them, and their curves."""
    names = stream.names
    rows = []
    for i, name in enumerate(names):
        key = Html(f'<span class="key k{i % COLOURS}"></span>')
        buttons = Html(
            '<button type="button" class="stop" disabled>stop</button> '
            '<input type="number" class="steps" min="1" placeholder="planned steps" aria-label="steps"> '
            '<button type="button" class="resume" disabled>resume</button><span class="said"></span>'
        )
        now = stream.state(name)
        state = Html(f'<span class="state">{html(now["state"] + now["at"])}</span>')
        rows.append((key, Html(f'<a href="{html(address("/show", name))}">{html(name)}</a>'), state, buttons))
    body = "".join(
        f'<tr class="run" data-run="{html(name)}">' + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for name, row in zip(names, rows)
    )
    parts = [
        Html('<p><a href="/">all runs</a></p>'),
        Html(f"<table><tbody>{body}</tbody></table>"),
        Html('<div class="charts"></div><div class="picture"></div>'),
        Html('<details><summary>other metrics</summary><div class="others"></div></details>'),
        text("A curve is the mean of the agents that a run trains side by side, its band from the least to the most."),
        *_settings(stream),
    ]
    title = names[0] if len(names) == 1 else f"{len(names)} runs"
    return page(title, "show", names, word, parts)


def _settings(stream: Stream) -> list[Html]:
    """What runs are of, and what differs between them; of one run what differs from the defaults."""
    found = []
    for name in stream.names:
        try:
            found.append((name, stream.folder.journal(name)))
        except (CheckpointError, ConfigError):  # the line of its state says why
            continue
    if not found:
        return []
    try:
        settings = [flat(journal.settings) | {"seeds": journal.seeds, "seed": journal.seed} for _, journal in found]
        differ = differing(settings) if len(found) > 1 else []
        rows = [
            (
                name,
                journal.name,
                journal.environment["id"],
                spell({field: own[field] for field in differ})
                if len(found) > 1
                else f"{journal.base} {spell(journal.changed)}",
                journal.resume_with,
            )
            for (name, journal), own in zip(found, settings)
        ]
    except (TypeError, ValueError, AttributeError, LookupError, RecursionError):
        return [text("The settings of one of these runs are damaged.")]
    what = "what differs" if len(found) > 1 else "settings"
    return [text("Settings", "h2"), table(rows, ("run", "algorithm", "environment", what, "from a shell"))]


def page(title: str, kind: str, names: list[str], word: str, parts: list[Html]) -> str:
    """A whole page; script and style are files of this server."""
    runs = urlencode([("run", name) for name in names], errors="replace")
    whole = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html(title)}</title><link rel="stylesheet" href="/style.css"><script src="/curves.js" defer></script>'
        f'</head>\n<body data-kind="{kind}" data-runs="{html(runs)}" data-word="{html(word)}">'
        f"<h1>{html(title)}</h1>\n{''.join(parts)}\n</body></html>\n"
    )
    return whole.encode("utf-8", "backslashreplace").decode()  # a file's name may be no text


def address(path: str, name: str) -> str:
    """The address of a run's page."""
    return f"{path}?{urlencode({'run': name}, errors='replace')}"
