"""TRPO on CartPole and Pendulum."""

from __future__ import annotations

import pytest
from trained import greedy, trained

from thorndike.runs.training.setup import choose


@pytest.mark.slow
@pytest.mark.parametrize(("env", "least"), [("CartPole-v1", 475), ("Pendulum-v1", -250)])
def test_the_presets(env, least, tmp_path):
    algorithm, steps = choose("trpo", env, None)
    returns = greedy(trained(tmp_path, algorithm, env, steps, seeds=3))
    assert (returns >= least).all(), returns
