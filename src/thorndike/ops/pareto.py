"""Several objectives at once: which points no other one beats."""

from __future__ import annotations

import numpy as np


def efficient(points: np.ndarray) -> np.ndarray:
    """Which points [N, M] are not dominated, bool [N]; more is better in every column.

    One dominates another if it is at least as good everywhere, and better somewhere. Equal points do not dominate each
    other, and one with NaN is never efficient.
    """
    points = np.asarray(points, float)
    known = ~np.isnan(points).any(1)
    found = known.copy()
    for i in np.flatnonzero(known):
        others = points[known]
        found[i] = not ((others >= points[i]).all(1) & (others > points[i]).any(1)).any()
    return found
