"""Pages of HTML in one file: no script and nothing from elsewhere, light and dark. Curves are inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

COLOURS = 6  # of curves, before they repeat
WIDTH, HEIGHT = 460, 250
LEFT, BOTTOM, TOP, RIGHT = 62, 34, 12, 14
CSS = """
:root { color-scheme: light dark; --ink: #1a202c; --paper: #fff; --faint: #718096; --line: #e2e8f0; --card: #f7fafc;
  --c0: #2b6cb0; --c1: #c05621; --c2: #2f855a; --c3: #b83280; --c4: #6b46c1; --c5: #0e7490; }
@media (prefers-color-scheme: dark) { :root { --ink: #e2e8f0; --paper: #12161d; --faint: #94a3b8; --line: #2d3748;
  --card: #1a202b; --c0: #63b3ed; --c1: #f6ad55; --c2: #68d391; --c3: #f687b3; --c4: #b794f4; --c5: #4fd1c5; } }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } .faint { color: var(--faint); }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
pre { background: var(--card); padding: .7rem 1rem; border-radius: 6px; white-space: pre-wrap; }
.words td + td { overflow-wrap: normal; } .numbers td + td { white-space: nowrap; }
.words th, .numbers th { white-space: nowrap; }
.away { color: var(--c1); } summary { cursor: pointer; } summary:focus-visible { outline: 2px solid var(--c0); }
figure { display: inline-block; margin: 0 1rem 1rem 0; max-width: 100%; vertical-align: top; }
figcaption { color: var(--faint); font-size: .85rem; }
svg, img { max-width: 100%; height: auto; } svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
.dot { fill: var(--c0); opacity: .4; } .mean { stroke: var(--ink); stroke-width: 2; }
.grid { stroke: var(--line); } .key { display: inline-block; width: 1.4em; height: .25em; vertical-align: middle; }
@media (max-width: 30rem) { body { margin: 1rem auto; } td, th { padding-right: .6rem; font-size: .87rem; } }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
"""
CSS += "".join(
    f".s{i} {{ stroke: var(--c{i}) }} .f{i} {{ fill: var(--c{i}); opacity: .15 }} .k{i} {{ background: var(--c{i}) }}\n"
    for i in range(COLOURS)
)


class Html(str):
    """Text that is HTML already; all else is escaped."""


def html(value: Any) -> Html:
    """Escaped, unless it is HTML."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def page(title: str, sections: Iterable[tuple[str, Sequence[Html]]]) -> str:
    """A whole page of headings with what is below each."""
    body = "\n".join(f"<section><h2>{html(head)}</h2>\n{''.join(parts)}</section>" for head, parts in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">\n'
        f"<title>{html(title)}</title><style>{CSS}</style></head>\n<body><h1>{html(title)}</h1>\n{body}\n</body></html>\n"
    )


def table(rows: Iterable[Sequence[Any]], head: Sequence[Any] = (), kind: str = "") -> Html:
    """Rows of cells, whose text may be broken anywhere; of the kind "words" between words, and of "numbers" nowhere,
    but for the first of each row."""
    lines = ["<tr>" + "".join(f"<th>{html(cell)}</th>" for cell in head) + "</tr>"] if head else []
    lines += ["<tr>" + "".join(f"<td>{html(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return Html(f"<table{kind and f' class={kind}'}>{''.join(lines)}</table>")


def text(words: Any, kind: str = "p") -> Html:
    """A paragraph, or another element."""
    return Html(f"<{kind}>{html(words)}</{kind}>")


def legend(names: Sequence[str]) -> Html:
    """What each colour is."""
    keys = "".join(f'<span class="key k{i % COLOURS}"></span> {html(name)}<br>' for i, name in enumerate(names))
    return Html(f"<p>{keys}</p>")


def chart(title: str, lines: Sequence[tuple[Any, Any, Any, Any]], x: str = "environment steps") -> Html:
    """Curves against steps: (x [N], y [N], low [N] or None, high or None) each, in the colours of `legend`."""
    along = np.concatenate([np.asarray(line[0], float) for line in lines])
    up = np.concatenate([np.ravel(np.asarray(v, float)) for line in lines for v in line[1:] if v is not None])
    up = up[np.isfinite(up)]
    if not len(along) or not len(up):
        return Html("")
    (x0, x1), (y0, y1) = _ends(along), _ends(up)
    px = lambda v: LEFT + (np.asarray(v, float) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)  # noqa: E731
    py = lambda v: HEIGHT - BOTTOM - (np.asarray(v, float) - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP)  # noqa: E731
    parts = []
    for v, words in _marks(up):
        at = float(py(v))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{words}</text>')
    for v, words in _marks(along):
        parts.append(f'<text x="{float(px(v)):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{words}</text>')
    for i, (xs, ys, low, high) in enumerate(lines):
        xs, ys = np.asarray(xs, float), np.asarray(ys, float)
        keep = np.isfinite(ys)
        if low is not None and keep.any():
            around = [*zip(px(xs[keep]), py(np.asarray(low)[keep]))]
            around += [*zip(px(xs[keep]), py(np.asarray(high)[keep]))][::-1]
            parts.append(f'<polygon class="f{i % COLOURS}" points="{_points(around)}"/>')
        points = [*zip(px(xs[keep]), py(ys[keep]))]
        parts.append(f'<polyline class="s{i % COLOURS}" fill="none" stroke-width="2" points="{_points(points)}"/>')
        for across, height in points if len(points) == 1 else ():  # a line of one point shows nothing
            dot = f'cx="{across:.1f}" cy="{height:.1f}" r="1.5"'
            parts.append(f'<circle class="s{i % COLOURS}" fill="none" stroke-width="3" {dot}/>')
    label = f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{html(x)}</text>'
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{html(title)}">'
    return Html(f"<figure>{svg}{''.join(parts)}{label}</svg><figcaption>{html(title)}</figcaption></figure>")


def dots(title: str, rows: Sequence[tuple[str, Any]]) -> Html:
    """Distributions, a row for each: every value a dot, and a line at the mean. Values [N] that are not finite are left
    out."""
    known = [np.asarray(values, float)[np.isfinite(values)] for _, values in rows]
    if not any(map(len, known)):
        return Html("")
    left, row = 110, 26
    x0, x1 = _ends(np.concatenate(known))
    at = lambda v: left + 6 + (v - x0) / (x1 - x0) * (WIDTH - left - 24)  # noqa: E731
    bottom, parts = row * len(rows) + 4, []
    for v, words in _marks(np.concatenate(known)):
        parts.append(f'<line class="grid" x1="{at(v):.1f}" x2="{at(v):.1f}" y1="0" y2="{bottom}"/>')
        parts.append(f'<text x="{at(v):.1f}" y="{bottom + 14}" text-anchor="middle">{words}</text>')
    for i, ((name, _), values) in enumerate(zip(rows, known)):
        middle = row * i + row / 2 + 2
        parts.append(f'<text x="{left - 8}" y="{middle + 4}" text-anchor="end">{html(name[:18])}</text>')
        for j, value in enumerate(values):
            y = middle + (j * 7 % 5 - 2) * 2  # apart, where values are equal
            parts.append(f'<circle class="dot" cx="{at(value):.1f}" cy="{y}" r="3"/>')
        if len(values):
            mean = at(values.mean())
            parts.append(f'<line class="mean" x1="{mean:.1f}" x2="{mean:.1f}" y1="{middle - 11}" y2="{middle + 11}"/>')
    svg = f'<svg viewBox="0 0 {WIDTH} {bottom + 20}" width="{WIDTH}" role="img" aria-label="{html(title)}">'
    return Html(f"<figure>{svg}{''.join(parts)}</svg><figcaption>{html(title)}</figcaption></figure>")


def _marks(values: np.ndarray) -> list[tuple[float, str]]:
    """Where an axis of these values has its numbers, and what they are: no two alike, and one alone of a constant."""
    low, high = _ends(values)
    ticks = _ticks(low, high) if values.max() > values.min() else [float(values[0])]
    for digits in range(3, 17):
        words = [_short(tick, digits) for tick in ticks]
        if len(set(words)) == len(words):
            break
    return [*zip(ticks, words)]


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten, at most so many."""
    power = 10 ** np.floor(np.log10((high - low) / most))
    step = next(power * times for times in (1, 2, 5, 10, 20) if (high - low) / (power * times) <= most - 1)
    return [float(i * step) for i in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    half = max(0.5, 1e-6 * abs(low))  # of a constant, which may be so large that 0.5 is nothing beside it
    return (low, high) if high > low else (low - half, high + half)


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)


def _short(number: float, digits: int = 3) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.{digits}g}{unit}"
    return f"{number:.{digits}g}"
