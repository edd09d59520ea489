"""Empowerment against counting, and channels whose capacity has a closed form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import thorndike as td
from thorndike.ops.empowerment import capacity


def entropy(p):
    p = np.asarray([p, 1 - p])
    return -(p[p > 0] * np.log2(p[p > 0])).sum()


@pytest.mark.parametrize("flip", [0.0, 0.1, 0.3, 0.5])
def test_the_binary_symmetric_channel(flip):
    """C = 1 - H(p)."""
    found = capacity(np.array([[1 - flip, flip], [flip, 1 - flip]]))
    assert found == pytest.approx(1 - entropy(flip), abs=1e-5)


@pytest.mark.parametrize("lost", [0.2, 0.5, 0.9])
def test_the_z_channel_and_the_erasure_channel(lost):
    """C = log2(1 + (1 - p) p^(p / (1 - p))), and 1 - p. The Z channel's best input is not uniform."""
    z = capacity(np.array([[1.0, 0.0], [lost, 1 - lost]]))
    assert z == pytest.approx(np.log2(1 + (1 - lost) * lost ** (lost / (1 - lost))), abs=1e-4)
    erasure = capacity(np.array([[1 - lost, 0, lost], [0, 1 - lost, lost]]))
    assert erasure == pytest.approx(1 - lost, abs=1e-5)


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_a_deterministic_grid_is_counted(horizon):
    """log2 of the cells that can be reached in exactly n steps, by walking all sequences."""
    world = td.GridWorld(map=("S..#", ".#..", "...G"))
    target, goal = world.layout.target, world.layout.goal
    bits = td.empowerment(world, horizon)
    for cell in np.flatnonzero(~world.layout.wall & ~goal):
        ends = set()
        for actions in itertools.product(range(4), repeat=horizon):
            at = int(cell)
            for action in actions:
                at = at if goal[at] else int(target[at, action])
            ends.add(at)
        assert bits[cell] == pytest.approx(np.log2(len(ends)), abs=1e-5)
    assert (bits[goal] == 0).all()


def test_chance_takes_power_away():
    quiet, slippery = (td.empowerment(td.GridWorld(slip=slip), 1) for slip in (0.0, 0.5))
    assert (slippery[:24] < quiet[:24] - 0.3).all()


def test_what_it_cannot_look_at():
    with pytest.raises(td.ConfigError, match="sequences"):
        td.empowerment(td.GridWorld(), 12)
    with pytest.raises(td.ConfigError, match="transitions"):
        td.empowerment(np.eye(3))
