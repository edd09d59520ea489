"""DQN on CartPole and Acrobot, and what its parts are for."""

from __future__ import annotations

import pytest
from cases import trained

from thorndike.runs.train import choose


def test_cartpole_in_100k_steps(tmp_path):
    algorithm, _ = choose("dqn", "CartPole-v1", None)
    evaluation = trained(tmp_path, algorithm, "CartPole-v1", 100_000, seeds=6).evaluate(50)
    assert evaluation.mean >= 450, evaluation.per_seed


@pytest.mark.slow
def test_acrobot_in_100k_steps(tmp_path):
    algorithm, _ = choose("dqn", "Acrobot-v1", None)
    evaluation = trained(tmp_path, algorithm, "Acrobot-v1", 100_000, seeds=4).evaluate(50)
    print("Acrobot-v1", evaluation)
    assert evaluation.mean >= -95, evaluation.per_seed
