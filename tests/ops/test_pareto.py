"""Points that no other dominates, against every pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from thorndike.ops.pareto import efficient


def by_pairs(points):
    """The definition, said with Python's comparisons of one pair after the other."""
    found = []
    for i, p in enumerate(points):
        beaten = any(
            all(b >= a for a, b in zip(p, q)) and any(b > a for a, b in zip(p, q))
            for j, q in enumerate(points)
            if j != i
        )
        found.append(not beaten)
    return found


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_random_points(objectives):
    """Few different numbers, so that there are ties."""
    rng = np.random.default_rng(objectives)
    for _ in range(200):
        points = rng.integers(0, 4, (rng.integers(1, 12), objectives)).astype(float)
        assert efficient(points).tolist() == by_pairs(points.tolist())


def test_every_set_of_four_cells():
    """All of the 3 x 3 grid: ties, lines and equal points."""
    cells = list(itertools.product(range(3), repeat=2))
    for four in itertools.combinations_with_replacement(cells, 4):
        assert efficient(np.array(four)).tolist() == by_pairs(four)


def test_ties_by_hand():
    points = [[1, 3], [2, 2], [3, 1], [1, 2], [2, 2], [np.nan, 9]]
    assert efficient(np.array(points)).tolist() == [True, True, True, False, True, False]
