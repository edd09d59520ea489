"""PPO with an adaptive KL penalty on CartPole."""

from __future__ import annotations

import numpy as np
import pytest
from trained import greedy, trained

from thorndike.runs.training.setup import choose


@pytest.mark.slow
def test_cartpole_in_100k_steps(tmp_path):
    """The return, and the divergence of the last 20 rollouts: within a factor of two of the target."""
    algorithm, steps = choose("ppo-kl", "CartPole-v1", None)
    run = trained(tmp_path, algorithm, "CartPole-v1", steps, seeds=3, log_every=1024)
    assert (greedy(run) >= 450).all(), greedy(run)
    kl = np.asarray(run.metrics()["train/kl"])[-20:].mean(0)
    assert ((kl > 0.005) & (kl < 0.02)).all(), kl
