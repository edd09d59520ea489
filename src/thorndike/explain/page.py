"""A page of an explanation in one file: what counts, over an episode and on its frames, and a tree that does alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import ConfigError
from thorndike.explain.drawing import bars, drawn, heat, png, strips
from thorndike.explain.explanation import Explanation
from thorndike.explain.score import WORDS
from thorndike.files import replace
from thorndike.pages import Html, page, table, text
from thorndike.text import score

MOST, FEW = 16, 10  # features that are drawn, and those of them in a compact picture
IMAGES = 3  # of an episode, in that
CSS = Html(
    "<style>.b0 { fill: var(--c0) } .b1 { fill: var(--c1) } .node { fill: var(--card); stroke: var(--line) }"
    " .leaf { stroke: var(--c0) }</style>"
)
HOW = {  # of each method
    "integrated": "Integrated gradients: along the straight line from the baseline, they add up to the difference.",
    "gradient": "Gradients: how much the number changes with each feature, in that feature's unit.",
    "gradient-x-input": "Gradients times the distance from the baseline: what each feature adds to a linear function.",
    "occlusion": "Occlusion: what is missed where one part alone is as in the baseline.",
    "shapley": "Shapley values: each part's contribution, averaged over all orders in which parts may appear.",
}


def write(explanation: Explanation, out: str | Path, tree: Any = None) -> Path:
    """Write the page.

    Args:
        explanation: what it shows.
        out: the file.
        tree: a `Tree` that does as the agent does, or one sentence that says why there is none.
    """
    out = Path(out).expanduser()
    if out.is_dir():
        raise ConfigError(f"{out} is a directory: name a file in it, such as {out / 'explain.html'}")
    sections = [("What counts", _shares(explanation)), ("Step by step", _steps(explanation))]
    pictures = _frames(explanation)
    if pictures:
        sections.append(("Frames", pictures))
    if tree is not None:
        sections.append(("A tree that does alike", [text(tree)] if isinstance(tree, str) else _tree(tree)))
    out.parent.mkdir(parents=True, exist_ok=True)
    replace(out, [page(f"What {explanation.agent} goes by", sections).encode()])
    return out


def compact(explanation: Explanation) -> list[Html]:
    """The shares alone, and three frames where the agent sees images, for a page about other things too."""
    order, shares = _order(explanation)[:FEW], list(explanation.shares.values())
    left, names = len(shares) - len(order), [explanation.names[i] for i in order]
    parts = [
        CSS,
        text(f"The longer a bar, the more {WORDS[explanation.kind]} follows that input. {HOW[explanation.method]}"),
        bars([f"input {name}" if name.isdigit() else name for name in names], [shares[i] for i in order]),
    ]
    if left > 0:
        parts.append(text(f"{left} more inputs have smaller shares."))
    return [*parts, *_frames(explanation, IMAGES)]


def _order(explanation: Explanation) -> np.ndarray:
    """The features that are drawn, those that count most first."""
    return np.argsort([-share for share in explanation.shares.values()], kind="stable")[:MOST]


def _shares(explanation: Explanation) -> list[Html]:
    order, shares = _order(explanation), list(explanation.shares.values())
    names = [explanation.names[i] for i in order]
    parts = [
        CSS,
        text(f"Explained is {WORDS[explanation.kind]}, at {len(explanation.steps)} steps. {HOW[explanation.method]}"),
        bars(names, [shares[i] for i in order]),
        text("Shares are of the sizes of attributions, so that pushes one way and the other do not cancel."),
    ]
    if explanation.changes is not None:
        rows = [(explanation.names[i], f"{shares[i]:.1%}", f"{explanation.changes[i]:.1%}") for i in order]
        parts.append(table(rows, ("feature", "share", "other choices without it")))
        parts.append(text("Without it: the feature alone is as in the baseline, its mean unless another was given."))
    left = len(shares) - len(order)
    if left > 0:
        parts.append(text(f"{left} more features have smaller shares."))
    if explanation.method != "gradient":
        parts.append(
            text(
                f"On average the number is {score(explanation.score.mean())}, at the baseline "
                f"{score(explanation.start.mean())}; attributions add up to the difference but for "
                f"{explanation.incompleteness:.1%}."
            )
        )
    return parts


def _steps(explanation: Explanation) -> list[Html]:
    order = _order(explanation)
    names = [explanation.names[i] for i in order]
    return [
        text("Up speaks for what is explained, down against it; all features have one scale."),
        strips(names, explanation.values[:, order], explanation.steps),
    ]


def _frames(explanation: Explanation, most_frames: int | None = None) -> list[Html]:
    parts: list[Html] = []
    n = len(explanation.steps)
    at = range(n) if most_frames is None else np.unique(np.linspace(0, n - 1, most_frames + 2)[1:-1].astype(int))
    for image, name, obs, maps in zip(
        explanation.layout.images, explanation.layout.names, explanation.obs, explanation.maps
    ):
        if not image:
            continue
        parts.append(text(f"{name or 'What the agent sees'}: red speaks for what is explained, blue against it."))
        most = float(np.quantile(np.abs(maps), 0.998))
        parts += [png(heat(obs[i], maps[i], most), f"step {int(explanation.steps[i])}") for i in at]
    return parts


def _tree(tree: Any) -> list[Html]:
    mine, theirs = tree.evaluation, tree.teacher
    rows = [
        ("leaves", tree.leaves),
        ("mean return of the tree", f"{score(mine.mean)} ({mine.returns.size} episodes)"),
        ("mean return of the agent", f"{score(theirs.mean)} (the same episodes)"),
        ("the agent's action, in states where the tree goes", f"{tree.fidelity:.1%}"),
    ]
    return [table(rows), Html(f"<p>{drawn(tree)}</p>"), text(tree.text(), "pre")]
