"""Explanations as pictures in SVG and PNG, and trees as Python."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from thorndike.explain.baseline import sides_of
from thorndike.explain.planted import LEAF
from thorndike.nets.cnn import channels_first
from thorndike.pages import Html, html
from thorndike.runs.results.frames import seen

WIDTH, ROW = 460, 34  # of a strip of bars
BOX, LEVEL = 92, 62  # of a tree


def bars(names: list[str], shares: list[float]) -> Html:
    """A bar for each feature, as long as its share is large."""
    rows, most = [], max([*shares, 1e-12])
    for i, (name, share) in enumerate(zip(names, shares)):
        y, width = 22 * i, 240 * share / most
        rows.append(f'<text x="150" y="{y + 14}" text-anchor="end">{html(name[:24])}</text>')
        rows.append(f'<rect class="b0" x="156" y="{y + 4}" width="{width:.1f}" height="13"/>')
        rows.append(f'<text x="{160 + width:.1f}" y="{y + 14}">{share:.1%}</text>')
    return _svg(WIDTH, 22 * len(names) + 4, "share of each feature", rows)


def strips(names: list[str], values: np.ndarray, steps: np.ndarray) -> Html:
    """For each feature its attribution over the steps, values [N, F]: up and down from a line, all to one scale."""
    most, left = max(float(np.abs(values).max()), 1e-12), 110
    x = left + (WIDTH - left - 6) * (np.arange(len(steps)) / max(len(steps) - 1, 1))
    rows = []
    for i, (name, column) in enumerate(zip(names, values.T)):
        middle = ROW * i + ROW / 2
        rows.append(f'<text x="{left - 8}" y="{middle + 4:.0f}" text-anchor="end">{html(name[:18])}</text>')
        rows.append(f'<line class="grid" x1="{left}" x2="{WIDTH - 6}" y1="{middle}" y2="{middle}"/>')
        for kind, side in (("b0", np.maximum(column, 0)), ("b1", np.minimum(column, 0))):
            y = middle - side / most * (ROW / 2 - 2)
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
            rows.append(f'<polygon class="{kind}" points="{x[0]:.1f},{middle} {points} {x[-1]:.1f},{middle}"/>')
    bottom = ROW * len(names) + 14
    rows.append(f'<text x="{left}" y="{bottom}">step {int(steps[0])}</text>')
    rows.append(f'<text x="{WIDTH - 6}" y="{bottom}" text-anchor="end">step {int(steps[-1])}</text>')
    return _svg(WIDTH, bottom + 6, "attribution over the episode", rows)


def _svg(width: float, height: float, label: str, parts: list[str]) -> Html:
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{html(label)}">'
    return Html(f"{head}{''.join(parts)}</svg>")


def heat(obs: np.ndarray, shown: np.ndarray, most: float) -> np.ndarray:
    """A frame uint8 [H, W, 3] with its attributions above it: red speaks for, blue against; `most` is full colour."""
    picture = _last(obs)
    frame = seen(picture[..., None] if picture.ndim == 2 else picture)
    h, w = sides_of(obs.shape)
    flat = shown.sum(tuple(i for i in range(shown.ndim) if i not in (h, w)))
    scale = frame.shape[0] // flat.shape[0]
    strength = np.clip(flat / max(most, 1e-12), -1, 1).repeat(scale, 0).repeat(scale, 1)[..., None]
    grey = 0.35 * frame.mean(-1, keepdims=True) + 80.0
    colour = np.where(strength > 0, np.array([229.0, 62.0, 62.0]), np.array([66.0, 153.0, 225.0]))
    size = np.abs(strength) ** 0.7
    return ((1 - size) * grey + size * colour).astype(np.uint8)


def _last(obs: np.ndarray) -> np.ndarray:
    """The newest image of a stack."""
    if obs.ndim == 4:
        return obs[-1]
    return obs[-1] if obs.ndim == 3 and channels_first(obs.shape) and obs.shape[0] == 2 else obs


def png(frame: np.ndarray, words: str) -> Html:
    """A picture inside the page."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(frame).save(data, "PNG", optimize=True)
    code = base64.b64encode(data.getvalue()).decode()
    image = f'<img width="150" alt="{html(words)}" src="data:image/png;base64,{code}">'
    return Html(f"<figure>{image}<figcaption>{html(words)}</figcaption></figure>")


def drawn(tree: Any) -> Html:
    """A tree: tests in boxes, yes to the left, and actions at its leaves."""
    nodes, parts, places = tree.nodes, [], {}
    leaf = 0

    def place(at: int, depth: int) -> float:
        nonlocal leaf
        if nodes.feature[at] == LEAF:
            leaf += 1
            x = (leaf - 0.5) * BOX
        else:
            x = (place(int(nodes.left[at]), depth + 1) + place(int(nodes.right[at]), depth + 1)) / 2
        places[at] = x, depth * LEVEL + 4.0
        return x

    place(0, 0)
    for at, (x, y) in places.items():
        inner = nodes.feature[at] != LEAF
        for child, word in ((nodes.left[at], "yes"), (nodes.right[at], "no")) if inner else ():
            cx, cy = places[int(child)]
            parts.append(f'<line class="grid" x1="{x:.0f}" y1="{y + 34:.0f}" x2="{cx:.0f}" y2="{cy:.0f}"/>')
            parts.append(f'<text x="{(x + cx) / 2:.0f}" y="{(y + cy) / 2 + 18:.0f}" text-anchor="middle">{word}</text>')
        kind = "node" if inner else "node leaf"
        parts.append(
            f'<rect class="{kind}" x="{x - BOX / 2 + 3:.0f}" y="{y:.0f}" width="{BOX - 6}" height="34" rx="4"/>'
        )
        if inner:
            lines = tree.names[nodes.feature[at]][:13], f"≤ {nodes.threshold[at]:.4g}"
        else:
            lines = "action", str(tree.spec.action.start + nodes.action[at])
        for i, line in enumerate(lines):
            parts.append(f'<text x="{x:.0f}" y="{y + 14 + 14 * i:.0f}" text-anchor="middle">{html(line)}</text>')
    return _svg(leaf * BOX, max(y for _, y in places.values()) + 40, "the tree", parts)


def source(tree: Any) -> str:
    """A Python module with the tree as a function `act`."""
    nodes, start = tree.nodes, int(tree.spec.action.start)
    about = " ".join(f"A decision tree of {tree.leaves} leaves, made of an agent for {tree.spec.id}".split())
    lines = [f"# {about}", "", "", "def act(obs):", '    """The action for one observation."""']
    if tree.spec.observation.shape != (len(tree.names),):
        lines.append("    obs = obs.reshape(-1)")

    def write(at: int, depth: int) -> None:
        indent = "    " * depth
        if nodes.feature[at] == LEAF:
            lines.append(f"{indent}return {start + int(nodes.action[at])}")
            return
        name = " ".join(tree.names[nodes.feature[at]].split())
        lines.append(f"{indent}if obs[{int(nodes.feature[at])}] <= {float(nodes.threshold[at])!r}:  # {name}")
        write(int(nodes.left[at]), depth + 1)
        write(int(nodes.right[at]), depth)

    write(0, 1)
    return "\n".join([*lines, ""])
