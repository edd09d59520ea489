"""A2C on CartPole."""

from __future__ import annotations

import pytest
from trained import greedy, trained

from thorndike.runs.training.setup import choose


@pytest.mark.slow
def test_cartpole_in_200k_steps(tmp_path):
    """500 in each of 4 seeds were measured."""
    algorithm, steps = choose("a2c", "CartPole-v1", None)
    returns = greedy(trained(tmp_path, algorithm, "CartPole-v1", steps, seeds=3))
    assert (returns >= 450).all(), returns
