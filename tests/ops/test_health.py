"""Measures of health in cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from thorndike.ops import health

RNG = np.random.default_rng(0)


def test_overestimation_is_the_bias_of_the_maximum():
    """Of ten equal actions with independent errors N(0, 1) the maximum is 1.54 too high; others' choice is not."""
    judged, chooser = RNG.normal(size=(2, 40_000, 10)).astype(np.float32)
    assert health.overestimation(judged, chooser) == pytest.approx(1.5388, abs=0.03)
    assert health.overestimation(judged, judged) == 0


def test_action_gap():
    assert health.action_gap(np.float32([[1, 5, 2], [0, 0, -1]])) == 1.5
    assert health.action_gap(np.ones((4, 1))) == 0


def test_effective_rank_is_that_of_the_singular_values():
    x = RNG.normal(size=(60, 8)).astype(np.float32) * np.float32([5, 3, 1, 1, 0.1, 0, 0, 0])
    s = np.linalg.svd(x, compute_uv=False) ** 2
    assert health.effective_rank(x) == pytest.approx(s.sum() ** 2 / (s**2).sum(), rel=1e-4)
    assert health.effective_rank(np.outer(np.arange(9), np.arange(4)).astype(np.float32)) == pytest.approx(1)


def test_dead_units_and_weights():
    x = np.float32([[[0, 1, 3, 0], [0, 2, 3, 1]]])
    assert health.dead_units(x) == 0.5
    assert health.effective_share(np.ones(7)) == pytest.approx(1)
    assert health.effective_share(np.float32([0, 0, 5, 0])) == pytest.approx(0.25)
