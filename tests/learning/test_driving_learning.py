"""A driver learns to arrive at crossings that it never drove to, where a planner shows the way."""

from __future__ import annotations

import pytest
from trained import trained

import thorndike as td


def arrivals(tmp_path, planner):
    """The share of 200 greedy episodes between unseen starts and goals that arrive, after training on others."""
    town = lambda pairs: td.Routed(env=td.Streets(pairs=pairs), planner=planner)  # noqa: E731
    run = trained(tmp_path, td.preset("ppo", "RoutedStreets"), town("seen"), 2_000_000)
    found = run.evaluate(200, env=town("unseen"))
    print("ppo Streets", planner, found, run.status["seconds"])
    return float(found.earned["success"].mean())


@pytest.mark.slow
def test_with_a_route_it_arrives_and_without_it_does_not(tmp_path):
    assert arrivals(tmp_path, "a_star") >= 0.8
    assert arrivals(tmp_path, "none") <= 0.5
