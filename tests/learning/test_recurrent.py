"""Tasks that need memory, with it and without."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from trained import trained

from thorndike.runs.training.setup import choose

WITH = {  # (algorithm, environment): the mean return of its preset
    ("ppo", "CartPoleNoVel-v1"): 450,
    ("ppo", "TMaze"): 3.2,
    ("ppo", "RepeatPrevious"): 0.0,
    ("dqn", "TMaze"): 3.2,
    ("dqn", "RepeatPrevious"): 0.5,
}
WITHOUT = {  # what is out of reach without memory, and the slack of a mean over 200 episodes
    "CartPoleNoVel-v1": 100,
    "TMaze": 1.95 + 0.6,  # half of 4 and half of -0.1
    "RepeatPrevious": -0.5 + 0.1,  # one suit in four
}


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "env"), WITH)
def test_memory_is_what_solves_it(algorithm, env, tmp_path):
    """In all of eight seeds but one at most, and on average of each four: of a hundred one or two fail."""
    value, steps = choose(algorithm, env, None)
    evaluation = trained(tmp_path, value, env, steps, seeds=8).evaluate(50)
    print(algorithm, env, steps, evaluation)
    assert np.reshape(evaluation.per_run, (2, 4)).mean(1).min() >= WITH[algorithm, env], evaluation.per_run
    assert sorted(evaluation.per_run)[1] >= WITH[algorithm, env], evaluation.per_run


@pytest.mark.slow
@pytest.mark.parametrize("env", WITHOUT)
def test_without_memory_it_is_out_of_reach(env, tmp_path):
    value, steps = choose("ppo", env, None)
    evaluation = trained(tmp_path, dataclasses.replace(value, core=None), env, steps, seeds=4).evaluate(50)
    print(env, "without memory", evaluation)
    assert evaluation.mean <= WITHOUT[env], evaluation.per_run
