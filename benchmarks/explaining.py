"""What an agent for CartPole goes by, drawn: three methods side by side, and attributions over an episode.

    python benchmarks/explaining.py

Writes docs/images/explaining.png, and prints the tree; about a minute on an idle machine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import thorndike as td
from thorndike.figures import dress, new_figure, save, style

IMAGES = Path(__file__).resolve().parents[1] / "docs/images"
NAMES = ("place", "speed", "angle", "spin")
METHODS = ("integrated", "occlusion", "shapley")
SHOWN = 60  # steps


def main() -> None:
    """Train, explain, draw."""
    with tempfile.TemporaryDirectory() as folder:
        run = td.train("ppo", "CartPole-v1", 100_000, out=Path(folder) / "run", progress=False)
        found = {method: run.explain(method=method, names=NAMES) for method in METHODS}
        tree = run.tree(15, names=NAMES)
    print(tree)
    figure = new_figure(11.0, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    for i, (method, explanation) in enumerate(found.items()):
        at = np.arange(len(NAMES)) + 0.26 * (i - 1)
        left.barh(at, list(explanation.shares.values()), 0.24, label=method, color=style(i)["color"])
    left.set(yticks=range(len(NAMES)), yticklabels=NAMES, xlabel="share of the attribution")
    left.invert_yaxis()
    left.legend(frameon=False)
    left.spines[["top", "right"]].set_visible(False)
    explanation = found["integrated"]
    for i, name in enumerate(NAMES):
        right.plot(explanation.steps[:SHOWN], explanation.values[:SHOWN, i], label=name, **style(i))
    right.axhline(0, color="#718096", linewidth=0.8)
    dress(right, "step of the episode", "speaks for the action")
    right.legend(frameon=False, ncols=4, loc="upper right")
    save(figure, IMAGES / "explaining.png")


if __name__ == "__main__":
    main()
