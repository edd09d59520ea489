"""Usual ranges of health metrics are those that the documentation names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from thorndike.runs.results.usual import USUAL, VALUES, readings

DOCS = (Path(__file__).parents[2] / "docs" / "health.md").read_text()


def row_of(tag):
    """The documentation's row about a metric."""
    name = tag.removeprefix("rollout/")
    if tag == "train/end_atoms":  # which has a paragraph
        return next(part for part in DOCS.split("\n\n") if name in part)
    (found,) = re.findall(rf"^\| .*`{re.escape(name)}`.*\|$", DOCS, re.MULTILINE)[:1]
    return found


def test_ranges_are_the_documentations():
    """Every bound that does not depend on the history is a number in the metric's row."""
    history = np.array([1.0, 0.5, 0.5])
    for tag, usual in USUAL.items():
        text = row_of(tag)
        numbers = {float(x) for x in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w])", text)}
        low, high = usual.ends(history)
        moves = usual.ends(3 * history) != (low, high)
        if not moves and tag != "rollout/episodes":  # of which there has to be one
            assert {x for x in (low, high) if np.isfinite(x)} - {0.0} <= numbers, tag


def test_readings_of_agents():
    n = 20
    table = {
        "steps": np.arange(n),
        "rollout/ep_rew_mean": np.full((n, 3), 100.0),
        "train/entropy": np.stack([np.linspace(0.7, x, n) for x in (0.5, 0.001, np.nan)], 1),
        "train/gradient_norm": np.stack([np.ones(n), np.where(np.arange(n) > 13, 1000.0, 1.0), np.zeros(n)], 1),
        "train/q_value": np.stack([np.full(n, x) for x in (90.0, 5000.0, -5000.0)], 1),
    }
    table["train/entropy"][-5:, 1] = 0.001
    found = {reading.tag: reading for reading in readings(table, {})}
    assert found["train/entropy"].outside.tolist() == [False, True, False]
    assert found["train/gradient_norm"].outside.tolist() == [False, True, True]
    assert found["train/q_value"].outside.tolist() == [False, True, True]
    assert not set(VALUES) & {reading.tag for reading in readings(table, {"normalize_reward": True})}
    one = table | {"train/approx_kl": np.r_[np.full(n - 1, 0.01), 9.0][:, None] * np.ones(3)}
    assert not {r.tag: r for r in readings(one, {})}["train/approx_kl"].outside.any()  # one row is noise
