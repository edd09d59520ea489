"""Tasks that need memory, with it and without."""

from __future__ import annotations

import dataclasses

import pytest
from cases import trained

from thorndike.runs.train import choose

CASES = {  # environment: (mean return that memory reaches, what is out of reach without)
    "CartPoleNoVel-v1": (450, 100),
    "TMaze": (3.2, 1.95),  # 1.95: half of 4 and half of -0.1
    "RepeatPrevious": (0.0, -0.5),  # -0.5: one suit in four
}
SLACK = {"CartPoleNoVel-v1": 0, "TMaze": 0.6, "RepeatPrevious": 0.1}  # of a mean over 200 episodes


@pytest.mark.slow
@pytest.mark.parametrize("env", CASES)
def test_memory_is_what_solves_it(env, tmp_path):
    algorithm, steps = choose("ppo", env, None)
    least, bound = CASES[env]
    evaluation = trained(tmp_path, algorithm, env, steps, seeds=4).evaluate(50)
    print(env, steps, evaluation)
    assert evaluation.mean >= least, evaluation.per_seed
    without = trained(tmp_path, dataclasses.replace(algorithm, core=None), env, steps, seeds=4).evaluate(50)
    print(env, "without memory", without)
    assert without.mean <= bound + SLACK[env], without.per_seed
